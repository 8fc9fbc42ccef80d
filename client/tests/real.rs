//! A cluster of real servers inside the test process, gone when it is dropped.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use mcomp_client::Cluster;
use mcomp_config::{Config, Overrides};
use mcomp_server::{Options, Server};

/// Servers of one configuration.
pub(crate) struct Real {
    pub(crate) config: Config,
    servers: Vec<Option<Server>>,
}

impl Real {
    /// `n` servers of `k` bytes, with extra lines for the section `[client]`.
    pub(crate) fn start(k: u64, n: u32, client: &str) -> Real {
        // Relaxed: the number only has to be unique.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("client-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // All ports are held until all are known, so that they differ.
        let sockets: Vec<_> = (0..n).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut text = format!("[cluster]\nname = \"{name}\"\nk = {k}\nn = {n}\n[client]\n{client}\n");
        for socket in &sockets {
            text += &format!("[[server]]\naddress = \"{}\"\n", socket.local_addr().unwrap());
        }
        drop(sockets);
        let folder = std::env::temp_dir().join(format!("mcomp-{name}"));
        let config = Config::parse(&text, &folder.join("mcomp.cfg"), &Overrides::default()).unwrap();
        let mut real = Real { config, servers: (0..n).map(|_| None).collect() };
        (0..n).for_each(|id| real.start_one(id));
        real
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Cluster {
        Cluster::connect(&self.config).unwrap()
    }

    /// Stops one server; its segment stays.
    pub(crate) fn stop_one(&mut self, id: u32) {
        self.servers[id as usize] = None;
    }

    /// Starts one server, again if it ran before.
    pub(crate) fn start_one(&mut self, id: u32) {
        let options = Options { id, ..Options::default() };
        self.servers[id as usize] = Some(Server::start(&self.config, &options).unwrap());
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.servers.clear();
        for id in 0..self.config.n() {
            // Missing is as good as removed.
            let _ = std::fs::remove_file(format!("/dev/shm/mcomp.{}.{id}", self.config.name()));
        }
        let _ = std::fs::remove_dir_all(self.config.folder());
    }
}
