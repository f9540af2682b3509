//! What a token is narrowed to: zones, names, types, values, and where it may be used from. What it does not speak of is not
//! narrowed; what it does not name is refused.

use std::net::IpAddr;

use godwit_wire::name::Name;
use godwit_wire::presentation;
use godwit_wire::rr::{Rrset, Rtype};
use ipnet::IpNet;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Code, Problem};
use crate::validate::{name, record};

/// The most entries of each list.
const MOST: usize = 100;

/// As it is written: the claim `godwit` of a JWT.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Narrowed {
    /// Apexes of zones.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "some")]
    #[schema(example = json!(["example.com."]))]
    pub zones: Vec<String>,
    /// Owner names; `*.` stands for one label or more.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "some")]
    #[schema(example = json!(["home.example.com.", "*.lab.example.com."]))]
    pub names: Vec<String>,
    /// Types of records.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "some")]
    #[schema(example = json!(["A", "AAAA"]))]
    pub types: Vec<String>,
    /// Values: networks for A and AAAA, and what else is written out as answers say it.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "some")]
    #[schema(example = json!(["198.51.100.0/24"]))]
    pub values: Vec<String>,
    /// Networks that requests come from.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "some")]
    #[schema(example = json!(["192.0.2.0/24"]))]
    pub networks: Vec<String>,
}

/// A list that is there names something: an empty one would be read as one that is left out, and narrow nothing.
fn some<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(D::Error::custom("an empty list would narrow nothing: leave it out"));
    }
    Ok(list)
}

/// What a token is narrowed to, as an object: `null` or a list would be read as nothing.
pub(crate) fn written<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Option<Narrowed>, D::Error> {
    struct Object;

    impl<'d> Visitor<'d> for Object {
        type Value = Narrowed;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'d>>(self, map: A) -> Result<Narrowed, A::Error> {
            Narrowed::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Object).map(Some)
}

/// The same, understood.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Limits {
    zones: Vec<Name>,
    names: Vec<Pattern>,
    types: Vec<Rtype>,
    values: Vec<Value>,
    networks: Vec<IpNet>,
    /// As it was written.
    written: Narrowed,
}

/// Names that a token may touch.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Pattern {
    /// This one.
    Exactly(Name),
    /// All below it.
    Below(Name),
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, Problem> {
        let below = text.strip_prefix("*.");
        if below.unwrap_or(text).split('.').any(|label| label == "*") {
            let message =
                format!("\"{text}\": a star stands for all that is below a name, as in *.example.com.");
            return Err(Problem::new(Code::InvalidName, message));
        }
        match below {
            Some(name) => name::absolute(name).map(Pattern::Below),
            None => name::absolute(text).map(Pattern::Exactly),
        }
    }

    fn holds(&self, owner: &Name) -> bool {
        match self {
            Pattern::Exactly(name) => owner == name,
            Pattern::Below(name) => owner.as_ref().is_below(name.as_ref()),
        }
    }
}

/// A value that a token may write.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Value {
    /// An address of a network, in A and AAAA.
    Within(IpNet),
    /// This one, in the form of answers, in every other type.
    Exactly(String),
}

impl Value {
    fn holds(&self, rtype: Rtype, rdata: &[u8]) -> bool {
        let address = match rtype {
            Rtype::A => <[u8; 4]>::try_from(rdata).ok().map(IpAddr::from),
            Rtype::AAAA => <[u8; 16]>::try_from(rdata).ok().map(IpAddr::from),
            _ => {
                let text = || presentation::format_rdata(rtype, rdata);
                return matches!(self, Value::Exactly(value) if *value == text());
            }
        };
        matches!((self, address), (Value::Within(network), Some(address)) if network.contains(&address))
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().map(IpNet::from).ok())
}

impl Limits {
    /// Understands what is written.
    ///
    /// # Errors
    /// `INVALID_VALUE`, `INVALID_NAME` or `INVALID_RECORD_TYPE` for the first entry that is wrong.
    pub(crate) fn of(narrowed: &Narrowed) -> Result<Limits, Problem> {
        let Narrowed { zones, names, types, values, networks } = narrowed;
        if [zones, names, types, values, networks].iter().any(|list| list.len() > MOST) {
            let message = format!("a token is narrowed to at most {MOST} of each");
            return Err(Problem::new(Code::InvalidValue, message));
        }
        let from = |text: &String| {
            let message = format!("\"{text}\": expected a network like 192.0.2.0/24");
            network(text).ok_or_else(|| Problem::new(Code::InvalidValue, message))
        };
        let value = |text: &String| network(text).map_or_else(|| Value::Exactly(text.clone()), Value::Within);
        Ok(Limits {
            zones: zones.iter().map(|text| name::absolute(text)).collect::<Result<_, _>>()?,
            names: names.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?,
            types: types.iter().map(|text| record::rtype(text)).collect::<Result<_, _>>()?,
            values: values.iter().map(value).collect(),
            networks: networks.iter().map(from).collect::<Result<_, _>>()?,
            written: narrowed.clone(),
        })
    }

    /// As it is written.
    pub(crate) fn narrowed(&self) -> &Narrowed {
        &self.written
    }

    /// Whether it narrows nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Limits::default()
    }

    /// Whether requests may come from an address.
    pub(crate) fn allows_from(&self, client: IpAddr) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(&client))
    }

    /// Whether it speaks of less than whole zones.
    fn is_within_zones(&self) -> bool {
        !self.names.is_empty() || !self.types.is_empty() || !self.values.is_empty()
    }

    /// Refuses a zone that it does not name.
    ///
    /// # Errors
    /// `FORBIDDEN`.
    pub(crate) fn allow_zone(&self, apex: &Name) -> Result<(), Problem> {
        if self.zones.is_empty() || self.zones.contains(apex) {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden, format!("this token is not for the zone {apex}")))
    }

    /// Refuses a name that is in none of its zones, whatever zones there are.
    ///
    /// # Errors
    /// `FORBIDDEN`.
    pub(crate) fn allow_owner(&self, owner: &Name) -> Result<(), Problem> {
        let in_zone = |apex: &Name| owner.as_ref().is_at_or_below(apex.as_ref());
        let is_in = self.zones.is_empty() || self.zones.iter().any(in_zone);
        if is_in && (self.names.is_empty() || self.names.iter().any(|pattern| pattern.holds(owner))) {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden, format!("this token is not for {owner}")))
    }

    /// The only zones that it is for; `None`: any.
    pub(crate) fn zones(&self) -> Option<&[Name]> {
        (!self.zones.is_empty()).then_some(&self.zones[..])
    }

    /// Refuses what is about a zone as a whole, unless it may touch all of it.
    ///
    /// # Errors
    /// `FORBIDDEN`.
    pub(crate) fn allow_whole_zone(&self, apex: &Name) -> Result<(), Problem> {
        self.allow_zone(apex)?;
        if self.is_within_zones() {
            let message = format!("this token is for some records of the zone {apex}, not for all of it");
            return Err(Problem::new(Code::Forbidden, message));
        }
        Ok(())
    }

    /// Refuses to go through all zones.
    ///
    /// # Errors
    /// `FORBIDDEN`.
    pub(crate) fn allow_all_zones(&self) -> Result<(), Problem> {
        if self.zones.is_empty() {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden, "this token is for some zones: say ?zone="))
    }

    /// Refuses what is about everything.
    ///
    /// # Errors
    /// `FORBIDDEN`.
    pub(crate) fn allow_everything(&self) -> Result<(), Problem> {
        if self.zones.is_empty() && !self.is_within_zones() {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden, "this token is for some zones or records, and this is about all"))
    }

    /// Refuses values that it does not name.
    ///
    /// # Errors
    /// `FORBIDDEN`.
    pub(crate) fn allow_values(&self, owner: &Name, rrset: &Rrset) -> Result<(), Problem> {
        let allows = |rdata: &[u8]| self.values.iter().any(|value| value.holds(rrset.rtype, rdata));
        if self.values.is_empty() || rrset.rdata.iter().all(|rdata| allows(rdata)) {
            return Ok(());
        }
        let message = format!("this token is not for these values of {owner} {}", rrset.rtype);
        Err(Problem::new(Code::Forbidden, message))
    }

    /// Refuses a record that it does not name.
    ///
    /// # Errors
    /// `FORBIDDEN`.
    pub(crate) fn allow_record(&self, owner: &Name, rtype: Rtype) -> Result<(), Problem> {
        // They decide what is below the name, too.
        let reaches_below = matches!(rtype, Rtype::NS | Rtype::DNAME);
        let holds = |pattern: &Pattern| match pattern {
            Pattern::Exactly(_) => !reaches_below && pattern.holds(owner),
            Pattern::Below(_) => pattern.holds(owner),
        };
        let is_named = self.names.is_empty() || self.names.iter().any(holds);
        if is_named && (self.types.is_empty() || self.types.contains(&rtype)) {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden, format!("this token is not for {owner} {rtype}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(zones: &[&str], names: &[&str], types: &[&str], networks: &[&str]) -> Limits {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let narrowed = Narrowed {
            zones: owned(zones),
            names: owned(names),
            types: owned(types),
            values: Vec::new(),
            networks: owned(networks),
        };
        Limits::of(&narrowed).unwrap()
    }

    fn named(text: &str) -> Name {
        name::absolute(text).unwrap()
    }

    #[test]
    fn what_is_not_named_is_refused_where_something_is() {
        let none = limits(&[], &[], &[], &[]);
        assert!(none.is_empty() && none.allow_everything().is_ok());
        let zone = limits(&["Example.com"], &[], &[], &[]);
        assert!(zone.allow_whole_zone(&named("example.com.")).is_ok());
        for other in ["example.org.", "www.example.com.", "com.", "."] {
            assert_eq!(zone.allow_zone(&named(other)).unwrap_err().code, Code::Forbidden, "{other}");
        }
        assert!(zone.allow_everything().is_err());
        let some = limits(&[], &["home.example.com", "*.lab.example.com"], &["A", "TYPE65280"], &[]);
        assert!(some.allow_zone(&named("example.com.")).is_ok());
        assert!(some.allow_whole_zone(&named("example.com.")).is_err() && some.allow_everything().is_err());
        for (owner, rtype, allowed) in [
            ("home.example.com.", Rtype::A, true),
            ("HOME.example.com.", Rtype::A, true),
            ("a.home.example.com.", Rtype::A, false),
            ("home.example.com.", Rtype::AAAA, false),
            ("a.lab.example.com.", Rtype::A, true),
            ("a.b.lab.example.com.", Rtype(65_280), true),
            ("home.example.com.", Rtype::NS, false),
            ("home.example.com.", Rtype::DNAME, false),
            ("lab.example.com.", Rtype::A, false),
            ("xlab.example.com.", Rtype::A, false),
            ("example.com.", Rtype::A, false),
        ] {
            assert_eq!(some.allow_record(&named(owner), rtype).is_ok(), allowed, "{owner} {rtype}");
        }
    }

    #[test]
    fn networks_are_where_requests_come_from() {
        let some = limits(&[], &[], &[], &["192.0.2.0/24", "2001:db8::1"]);
        for (client, allowed) in [
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("2001:db8::1", true),
            ("2001:db8::2", false),
            ("::ffff:192.0.2.1", false),
        ] {
            assert_eq!(some.allows_from(client.parse().unwrap()), allowed, "{client}");
        }
        assert!(some.allow_everything().is_ok() && !some.is_empty());
    }

    #[test]
    fn values_are_networks_for_addresses_and_texts_for_others() {
        let values = vec!["198.51.100.0/24".to_owned(), "2001:db8::/32".to_owned(), "\"token\"".to_owned()];
        let some = Limits::of(&Narrowed { values, ..Narrowed::default() }).unwrap();
        assert!(some.allow_whole_zone(&named("example.com.")).is_err());
        let owner = named("home.example.com.");
        for (rtype, texts, allowed) in [
            (Rtype::A, &["198.51.100.7"][..], true),
            (Rtype::A, &["198.51.100.7", "198.51.101.7"], false),
            (Rtype::AAAA, &["2001:db8:1::1"], true),
            (Rtype::AAAA, &["2001:db9::1"], false),
            (Rtype::TXT, &["\"token\""], true),
            (Rtype::TXT, &["\"198.51.100.7\""], false),
            (Rtype::TXT, &["\"token\"", "\"other\""], false),
            (Rtype::CNAME, &["198.51.100.7."], false),
        ] {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let rdata = record::values(rtype, &texts, None).unwrap();
            let set = Rrset { rtype, ttl: 300, rdata, rrsigs: Vec::new() };
            assert_eq!(some.allow_values(&owner, &set).is_ok(), allowed, "{rtype} {texts:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for json in [
            r#"{"zones":["a b"]}"#,
            r#"{"names":["*"]}"#,
            r#"{"names":["a.*.b"]}"#,
            r#"{"types":["NOPE"]}"#,
            r#"{"networks":["192.0.2.0/33"]}"#,
            r#"{"networks":["example.com"]}"#,
        ] {
            let narrowed: Narrowed = serde_json::from_str(json).unwrap();
            assert!(Limits::of(&narrowed).is_err(), "{json}");
        }
        for json in [
            r#"{"zone":["example.com"]}"#,
            r#"{"zones":"example.com"}"#,
            r#"{"zones":null}"#,
            r#"{"names":[]}"#,
        ] {
            assert!(serde_json::from_str::<Narrowed>(json).is_err(), "{json}");
        }
        let many = Narrowed { types: vec!["A".to_owned(); MOST + 1], ..Narrowed::default() };
        assert_eq!(Limits::of(&many).unwrap_err().code, Code::InvalidValue);
    }
}
