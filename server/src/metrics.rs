//! What a monitor reads: the counters and the state of a server as text, in the OpenMetrics format.
//!
//! The numbers are read from the atomics that the server counts in anyway, when somebody asks: nothing is kept twice,
//! and no lock is shared with data requests. All series are there from the start, at zero. docs/metrics.md lists them,
//! and a test compares it with what is said here.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::histogram::Histogram;
use crate::shared::Shared;

/// What `content-type` says of it.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a server.
pub(crate) fn page(shared: &Arc<Shared>) -> String {
    let mut registry = Registry::with_prefix("mcomp");
    registry.register_collector(Box::new(Metrics(Arc::clone(shared))));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("a string takes everything");
    page
}

#[derive(Debug)]
struct Metrics(Arc<Shared>);

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.life(&mut page)?;
        self.memory(&mut page)?;
        self.work(&mut page)?;
        self.snapshots(&mut page)
    }
}

impl Metrics {
    /// What it is, and since when.
    fn life(&self, page: &mut Page<'_>) -> fmt::Result {
        let shared = &*self.0;
        page.info(
            "build",
            "The version that runs, and which server it is",
            &[("version", env!("CARGO_PKG_VERSION")), ("cluster", &shared.cluster), ("server", &shared.id.to_string())],
        )?;
        let since = shared.started_unix.as_secs_f64();
        let start = page.0.encode_descriptor("start_time", "When it started", Some(&Unit::Seconds), MetricType::Gauge);
        start?.encode_gauge(&since)?;
        page.gauge("ready", "Whether it serves the memory", None, u64::from(shared.readiness().is_ok()))?;
        page.gauge("incarnation", "Grows with each server on its segment", None, shared.segment.incarnation())?;
        page.gauge("config_epoch", "Grows with each restore", None, shared.segment.config_epoch())?;
        page.gauge("cut_epoch", "Grows with each snapshot", None, shared.segment.epoch())
    }

    fn memory(&self, page: &mut Page<'_>) -> fmt::Result {
        let Shared { segment, .. } = &*self.0;
        let bytes = Some(&Unit::Bytes);
        page.gauge("memory", "The memory that it lends", bytes, segment.k_bytes())?;
        page.gauge("memory_used", "Blocks that were ever written", bytes, segment.bytes_used())?;
        page.gauge("memory_blocks", "Blocks of 4 KiB that it lends", None, segment.blocks())?;
        page.gauge(
            "torn_blocks",
            "Blocks that cannot be read until they are wholly written",
            None,
            segment.torn_blocks(),
        )?;
        page.counter(
            "repaired_blocks",
            "Blocks that were found half written, and finished",
            None,
            [([], segment.repaired_blocks())],
        )
    }

    /// Who asks, for what, and how it went.
    fn work(&self, page: &mut Page<'_>) -> fmt::Result {
        let Shared { connections, counters, .. } = &*self.0;
        page.gauge("connections", "Open connections", None, connections.count() as u64)?;
        page.gauge("connections_limit", "The most open connections", None, connections.most() as u64)?;
        let ops = counters.ops().map(|(kind, count)| ([("kind", kind)], count));
        page.counter("ops", "Data requests that were done, by kind", None, ops)?;
        let bytes = counters.bytes().map(|(direction, count)| ([("direction", direction)], count));
        page.counter("data", "Bytes that were read and written", Some(&Unit::Bytes), bytes)?;
        let rejected = counters.rejected().map(|(cause, count)| ([("cause", cause)], count));
        page.counter("rejected", "Requests and connections that were refused", None, rejected)?;
        let durations = counters.durations();
        let durations = durations.map(|(kind, histogram)| ([("kind", kind)], histogram));
        page.histogram("request_duration", "From the request to the end of its answer", durations)
    }

    fn snapshots(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters = &self.0.counters;
        let cuts = counters.cuts().map(|(outcome, count)| ([("outcome", outcome)], count));
        page.counter("snapshots", "Snapshots that this server took part in", None, cuts)?;
        let holds = std::iter::once(([], counters.holds()));
        page.histogram("cut_hold", "How long a cut held answers back", holds)
    }
}

/// The text as it grows.
struct Page<'a>(DescriptorEncoder<'a>);

/// Names and values.
type Labels<'a, const N: usize> = [(&'a str, &'a str); N];

impl Page<'_> {
    fn info<const N: usize>(&mut self, name: &str, help: &str, labels: &Labels<'_, N>) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        // As text it is the same, and no conversion can fail.
        let mut gauge = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        gauge.encode_gauge(&value)
    }

    fn counter<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        series: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, total) in series {
            labelled(&mut family, &labels, |counter| counter.encode_counter::<NoLabelSet, _, u64>(&total, None))?;
        }
        Ok(())
    }

    /// Always in seconds.
    fn histogram<'l, 'h, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (Labels<'l, N>, &'h Histogram)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, histogram) in series {
            let reading = histogram.read();
            labelled(&mut family, &labels, |encoder| {
                encoder.encode_histogram::<NoLabelSet>(reading.sum_s, reading.count, &reading.buckets, None)
            })?;
        }
        Ok(())
    }
}

fn labelled<const N: usize>(
    family: &mut MetricEncoder<'_>,
    labels: &Labels<'_, N>,
    encode: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    match N {
        0 => encode(family),
        _ => encode(&mut family.encode_family(labels)?),
    }
}
