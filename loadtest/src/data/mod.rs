//! The data that every server is given and the questions that it is asked, each a function of the seed: zone files,
//! query files, and for every question the one right answer.

pub mod delegations;
pub mod draw;
pub mod files;
pub mod flat;
pub mod record;
pub mod truth;
pub mod zones;

use std::fmt;

use self::truth::Expected;

/// A question of a workload with its right answer.
#[derive(Clone, Debug)]
pub struct Question {
    /// Absolute name, lower case.
    pub name: String,
    /// QTYPE.
    pub qtype: u16,
    /// What must come back.
    pub expected: Expected,
}

/// What a server is loaded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Dataset {
    /// One zone of 1,000 names.
    Small,
    /// One zone of 1,000,000 names of mixed types.
    Large,
    /// 100,000 zones of a few names each.
    Zones,
    /// One zone of 100,000 delegations with in-domain glue.
    Delegations,
}

impl Dataset {
    /// All of them, smallest first.
    pub const ALL: [Dataset; 4] = [Dataset::Small, Dataset::Delegations, Dataset::Zones, Dataset::Large];

    /// The name used for files and options.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Dataset::Small => "small",
            Dataset::Large => "large",
            Dataset::Zones => "zones",
            Dataset::Delegations => "delegations",
        }
    }
}

/// What is asked of a server: the order of the rows in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// 1k names, all hits.
    Small,
    /// The same with EDNS, 1232 octets.
    SmallEdns,
    /// 1M names, random hits.
    Large,
    /// 1M names, half of the questions NXDOMAIN.
    LargeNx,
    /// 100k zones, random hits.
    Zones,
    /// 100k delegations, referral and glue.
    Delegations,
    /// 1M names at a fixed rate: latency.
    LargeRate,
    /// TCP, 32 connections, 10 in flight on each.
    Tcp10,
    /// TCP, 32 connections, 1 in flight on each.
    Tcp1,
    /// TCP, one connection per query, 32 at a time.
    TcpConnect,
}

impl Workload {
    /// All of them, in the order of the report.
    pub const ALL: [Workload; 10] = [
        Workload::Small,
        Workload::SmallEdns,
        Workload::Large,
        Workload::LargeNx,
        Workload::Zones,
        Workload::Delegations,
        Workload::LargeRate,
        Workload::Tcp10,
        Workload::Tcp1,
        Workload::TcpConnect,
    ];

    /// The data it needs.
    #[must_use]
    pub fn dataset(self) -> Dataset {
        match self {
            Workload::Large | Workload::LargeNx | Workload::LargeRate => Dataset::Large,
            Workload::Zones => Dataset::Zones,
            Workload::Delegations => Dataset::Delegations,
            Workload::Small
            | Workload::SmallEdns
            | Workload::Tcp10
            | Workload::Tcp1
            | Workload::TcpConnect => Dataset::Small,
        }
    }

    /// Whether the queries carry an OPT record.
    #[must_use]
    pub fn edns(self) -> bool {
        self == Workload::SmallEdns
    }

    /// Whether it runs over TCP; the reflector has no TCP.
    #[must_use]
    pub fn tcp(self) -> bool {
        matches!(self, Workload::Tcp10 | Workload::Tcp1 | Workload::TcpConnect)
    }

    /// The name used for files and options.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Workload::Small => "small",
            Workload::SmallEdns => "small-edns",
            Workload::Large => "large",
            Workload::LargeNx => "large-nx",
            Workload::Zones => "zones",
            Workload::Delegations => "delegations",
            Workload::LargeRate => "large-rate",
            Workload::Tcp10 => "tcp10",
            Workload::Tcp1 => "tcp1",
            Workload::TcpConnect => "tcp-connect",
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Workload::Small => "UDP, 1k names, hits",
            Workload::SmallEdns => "UDP, 1k names, hits, EDNS 1232",
            Workload::Large => "UDP, 1M names, random hits",
            Workload::LargeNx => "UDP, 1M names, half NXDOMAIN",
            Workload::Zones => "UDP, 100k zones, random hits",
            Workload::Delegations => "UDP, 100k delegations, referral and glue",
            Workload::LargeRate => "UDP, 1M names at a fixed rate",
            Workload::Tcp10 => "TCP, 32 connections, 10 in flight",
            Workload::Tcp1 => "TCP, 32 connections, 1 in flight",
            Workload::TcpConnect => "TCP, one connection per query",
        })
    }
}

/// The generator of everything: seed and sizes. Smaller sizes are for trying things out; the report names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Source {
    /// What all draws start from.
    pub seed: u64,
    /// Every size but that of `small` is divided by this.
    pub shrink: u64,
}

impl Source {
    /// How many different draws of a question a workload has; they repeat in a circle.
    #[must_use]
    pub fn question_count(&self, workload: Workload) -> u32 {
        let count = match workload.dataset() {
            Dataset::Small => 8_192,
            Dataset::Large => 1_000_000 / self.shrink,
            Dataset::Zones | Dataset::Delegations => 400_000 / self.shrink,
        };
        u32::try_from(count.max(4_096)).expect("at most a million questions")
    }

    /// Question number `index` of a workload. Workloads of the same data ask the same but for `large-nx`.
    #[must_use]
    pub fn question(&self, workload: Workload, index: u32) -> Question {
        let index = u64::from(index);
        match workload.dataset() {
            Dataset::Small => self.small().question(index),
            Dataset::Large if workload == Workload::LargeNx => self.large().question_half_missing(index),
            Dataset::Large => self.large().question(index),
            Dataset::Zones => self.zones().question(index),
            Dataset::Delegations => self.delegations().question(index),
        }
    }

    /// The 1k-name zone.
    #[must_use]
    pub fn small(&self) -> flat::Flat {
        flat::Flat { seed: self.seed, apex: "small.test.", count: 1_000 }
    }

    /// The 1M-name zone.
    #[must_use]
    pub fn large(&self) -> flat::Flat {
        flat::Flat { seed: self.seed, apex: "big.test.", count: (1_000_000 / self.shrink).max(1_000) }
    }

    /// The 100k zones.
    #[must_use]
    pub fn zones(&self) -> zones::Zones {
        zones::Zones { seed: self.seed, count: (100_000 / self.shrink).max(100) }
    }

    /// The zone of 100k delegations.
    #[must_use]
    pub fn delegations(&self) -> delegations::Delegations {
        delegations::Delegations { seed: self.seed, count: (100_000 / self.shrink).max(100) }
    }
}
