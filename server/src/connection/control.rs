//! Control requests: each goes to the part of the server that it is about, if its sender's role may ask it.

use mcomp_net::{Received, begin_frame};
use mcomp_wire::control::{Await, encode};
use mcomp_wire::meta::{Ask, Command, PeerPart};
use mcomp_wire::{Header, Kind, Role, Status, control, limits};
use serde::de::DeserializeOwned;

use super::Connection;
use crate::memory::Refusal;
use crate::shared::Shared;

impl Connection {
    /// Does a control request and answers it.
    pub(super) fn control(&mut self, kind: Kind, frame: &Received) -> Result<(), Refusal> {
        let body = self.obey(kind, frame)?;
        self.answer_control(frame.header, &body);
        Ok(())
    }

    fn obey(&self, kind: Kind, frame: &Received) -> Result<Vec<u8>, Refusal> {
        let Shared { cuts, restores, .. } = &*self.shared;
        let (id, epoch) = (self.place.id, frame.header.config_epoch);
        Ok(match kind {
            Kind::Status => encode(&self.shared.status()),
            Kind::CutPrepare => {
                let request = self.read_control(frame, Role::Node)?;
                self.check_map()?;
                encode(&cuts.prepare(id, &request)?)
            }
            Kind::CutSwitch => encode(&cuts.switch(id, &self.read_control(frame, Role::Node)?)?),
            Kind::CutSettle => encode(&cuts.settle(id, &self.read_control(frame, Role::Node)?)?),
            Kind::CutRelease => encode(&cuts.release(id, &self.read_control(frame, Role::Node)?)?),
            Kind::CutEnd => encode(&cuts.end(id, &self.read_control(frame, Role::Node)?)?),
            Kind::RestoreBegin => {
                let request = self.read_control(frame, Role::Admin)?;
                self.check_map()?;
                encode(&restores.begin(id, epoch, &request)?)
            }
            Kind::RestoreEnd => encode(&restores.end(id, &self.read_control(frame, Role::Admin)?)?),
            Kind::RestoreAbort => encode(&restores.abort(id, &self.read_control(frame, Role::Admin)?)?),
            Kind::Command => encode(&self.shared.metadata.command(self.command(frame)?)?),
            Kind::Query => encode(&self.shared.metadata.query(decode(self.inbox.body(frame))?)?),
            Kind::Await => {
                let Await { index } = decode(self.inbox.body(frame))?;
                encode(&self.shared.metadata.await_index(index)?)
            }
            _ => return Err(Refusal::new(Status::UnknownKind, format!("a memory server does not answer {kind}"))),
        })
    }

    /// Refuses what is about the whole memory to a peer whose mcomp.cfg does not list all servers, and to everybody while
    /// one is being added.
    fn check_map(&self) -> Result<(), Refusal> {
        let (listed, servers) = (self.listed, self.shared.servers());
        if listed != 0 && listed != servers {
            let message = format!(
                "the cluster has {servers} servers, and {listed} in the mcomp.cfg of the one who asks: servers were added"
            );
            return Err(Refusal::new(Status::WrongCluster, message));
        }
        match &self.shared.replicas {
            Some(replicas) if replicas.is_growing() => {
                Err(Refusal::new(Status::Busy, "a server is being added: try again when that is done"))
            }
            _ => Ok(()),
        }
    }

    /// A command, if this peer may give it.
    fn command(&self, frame: &Received) -> Result<Ask, Refusal> {
        let ask: Ask = decode(self.inbox.body(frame))?;
        if matches!(ask.command, Command::Join { .. } | Command::Received { .. }) {
            return Err(Refusal::new(Status::Denied, "a server joins by itself, and says itself what it has received"));
        }
        let what = match ask.command {
            Command::Reset { .. } => "a reset",
            Command::Move { .. } => "to move a server",
            Command::Grow { replicas, .. } if replicas != self.shared.copies() => {
                let ours = self.shared.copies();
                let message = format!("there are {ours} copies of each block here and {replicas} where that was asked");
                return Err(Refusal::new(Status::WrongCluster, message));
            }
            Command::Grow { .. } => "to add a server",
            _ => return Ok(ask),
        };
        match self.role {
            Role::Admin => Ok(ask),
            role => Err(Refusal::new(Status::Denied, format!("{what} is for an admin, and this is a {role}"))),
        }
    }

    /// Takes a part of what another server says. There is no answer.
    pub(super) fn peer(&mut self, frame: &Received) -> Result<(), Refusal> {
        if self.role != Role::Node {
            return Err(Refusal::new(
                Status::Denied,
                format!("peer is for the role node, and this is a {}", self.role),
            ));
        }
        let part = PeerPart::parse(self.inbox.body(frame));
        let part = part.map_err(|error| Refusal::new(Status::Malformed, error.to_string()))?;
        self.shared.metadata.take_part(&mut self.peer_inbox, &part, self.place.id)
    }

    /// Takes what another replica asks or says. There is no answer here.
    pub(super) fn replicas(&mut self, frame: &Received) -> Result<(), Refusal> {
        match &self.shared.replicas {
            Some(replicas) => replicas.receive(self.inbox.body(frame)),
            None => Err(Refusal::new(Status::UnknownKind, "the blocks of this server are not replicated")),
        }
    }

    /// The body of a control request that only `role` may ask.
    pub(super) fn read_control<T: DeserializeOwned>(&self, frame: &Received, role: Role) -> Result<T, Refusal> {
        if self.role != role {
            let kind = Kind::from_wire(frame.header.kind).map_or("this", Kind::word);
            return Err(Refusal::new(
                Status::Denied,
                format!("{kind} is for the role {role}, and this is a {}", self.role),
            ));
        }
        decode(self.inbox.body(frame))
    }

    /// Answers a control request with an encoded body.
    pub(super) fn answer_control(&mut self, request: Header, body: &[u8]) {
        // Below what every connection may have: an answer to a control request is never refused.
        self.out.make_room(body.len());
        let at = begin_frame(&mut self.out.bytes);
        self.out.bytes.extend_from_slice(body);
        let answer = self.shared.answer_header(&request, Status::Ok);
        self.finish.frame(&mut self.out.bytes, at, answer);
    }
}

/// A control body.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    if body.len() > limits::MAX_CONTROL {
        let message = format!("a control request of {} bytes; at most {} are allowed", body.len(), limits::MAX_CONTROL);
        return Err(Refusal::new(Status::TooLarge, message));
    }
    control::decode(body).map_err(|error| Refusal::new(Status::Malformed, error.to_string()))
}
