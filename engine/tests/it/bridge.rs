//! From the plain values of `testkit` to those of the engine.

use godwit_engine::answer::{AnyPolicy, Client, CookieSecrets, Readiness, Settings, Transport, WithoutData};
use godwit_engine::snapshot::{LoadedZone, Snapshot, SnapshotOptions, ZoneLoader};
use godwit_testkit::reference;
use godwit_wire::feed::digest::DigestKey;

/// A snapshot without zones, with fixed keys.
pub(crate) fn empty() -> Snapshot {
    Snapshot::empty(&SnapshotOptions { hash_key: [7; 16], digest_key: DigestKey([9; 32]) })
}

/// The zone as the engine loads it.
pub(crate) fn load(zone: &reference::Zone) -> LoadedZone {
    let mut loader = ZoneLoader::new(zone.apex.clone(), zone.owner_number);
    for record in &zone.records {
        loader
            .record(record.owner.as_ref(), record.rtype, record.ttl, &record.rdata, 0)
            .unwrap_or_else(|error| panic!("{record:?}: {error}"));
    }
    loader.finish().unwrap_or_else(|error| panic!("zone {}: {error}\n{:#?}", zone.apex, zone.records))
}

/// A snapshot of a whole world.
pub(crate) fn snapshot(world: &reference::World) -> Snapshot {
    empty().replace_zones(world.zones.iter().map(load).collect())
}

pub(crate) fn client(transport: reference::Transport, address: std::net::IpAddr) -> Client {
    let transport = match transport {
        reference::Transport::Udp => Transport::Udp,
        reference::Transport::Tcp => Transport::Tcp,
    };
    Client { address, transport }
}

pub(crate) fn settings(settings: &reference::Settings) -> Settings {
    Settings {
        without_data: WithoutData::new(settings.without_data.iter().cloned()),
        any: match settings.any {
            reference::Any::Minimal => AnyPolicy::Minimal,
            reference::Any::AlwaysMinimal => AnyPolicy::AlwaysMinimal,
            reference::Any::Full => AnyPolicy::Full,
        },
        nsid: settings.nsid.clone().map(Vec::into_boxed_slice),
        cookies: settings.cookies.map(|cookies| CookieSecrets {
            current: cookies.current,
            previous: cookies.previous,
            require: cookies.require,
        }),
        udp_payload_max: settings.udp_payload_max,
        resolve_cname_chain: settings.resolve_cname_chain,
        max_cname_depth: settings.max_cname_depth,
        version_bind: settings.version_bind.clone().map(Vec::into_boxed_slice),
        id_server: settings.id_server.clone().map(Vec::into_boxed_slice),
        tcp_keepalive: settings.tcp_keepalive,
        ready: if settings.serving { Readiness::Serving } else { Readiness::NoData },
    }
}
