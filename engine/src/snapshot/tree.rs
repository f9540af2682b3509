//! The names of a zone as they are built in canonical order: which flags a name has from those above it, and the empty
//! non-terminals between. Leaves out what is at the names: see [`super::load`].

use godwit_wire::name::NameRef;
use godwit_wire::rr::Rtype;

use super::derive;
use super::node::{Flags, Node, NodeBuilder};

/// The nodes built so far, and the way from the apex to the last of them.
pub(super) struct Tree<'a> {
    apex: NameRef<'a>,
    nodes: Vec<Node>,
    /// The last name's ancestors and itself, from the apex down: indices into `nodes`.
    path: Vec<usize>,
}

impl<'a> Tree<'a> {
    /// Of a zone with about so many names.
    pub(super) fn new(apex: NameRef<'a>, names: usize) -> Self {
        Tree { apex, nodes: Vec::with_capacity(names), path: Vec::new() }
    }

    /// The nodes in canonical order, the apex first. One of a zone without records is empty.
    pub(super) fn finish(mut self, builder: &mut NodeBuilder) -> Vec<Node> {
        if self.nodes.is_empty() {
            builder.clear();
            self.put(self.apex, Flags::APEX, builder);
        }
        self.nodes
    }

    /// Makes way for the next name in canonical order: leaves what it is not below, and adds the empty non-terminals above it
    /// (RFC 4592 §2.2.2). Gives its flags, which [`Tree::put`] wants.
    pub(super) fn open(
        &mut self,
        name: NameRef<'_>,
        types: impl Iterator<Item = Rtype>,
        builder: &mut NodeBuilder,
    ) -> Flags {
        let flags = derive::own_flags(name == self.apex, types);
        if flags.has(Flags::APEX) {
            return flags;
        }
        while let Some(top) = self.top()
            && !name.is_below(top.name())
        {
            self.path.pop();
        }
        let ancestor = self.top().map_or(0, |top| top.name().as_wire().len());
        let mut missing = Vec::new();
        let mut above = name.parent();
        while let Some(name) = above
            && name.as_wire().len() > ancestor
            && name.as_wire().len() >= self.apex.as_wire().len()
        {
            missing.push(name);
            above = name.parent();
        }
        for name in missing.into_iter().rev() {
            builder.clear();
            // The apex itself is missing only from a zone that will be refused.
            let flags = if name == self.apex { Flags::APEX } else { self.inherited() };
            self.put(name, flags, builder);
        }
        flags.with(self.inherited())
    }

    /// Adds the node of the images in the builder, below the last of the path.
    pub(super) fn put(&mut self, name: NameRef<'_>, flags: Flags, builder: &mut NodeBuilder) {
        if name.is_wildcard() {
            self.mark_wildcard_child();
        }
        let apex_at = name.as_wire().len().saturating_sub(self.apex.as_wire().len());
        self.path.push(self.nodes.len());
        self.nodes.push(builder.build(name, apex_at, flags, None, None));
    }

    fn top(&self) -> Option<&Node> {
        self.path.last().and_then(|&top| self.nodes.get(top))
    }

    /// What a name right below the last of the path has from it.
    fn inherited(&self) -> Flags {
        Flags::default().with_if(Flags::OCCLUDED, self.top().is_some_and(|top| derive::occludes(top.flags())))
    }

    fn mark_wildcard_child(&mut self) {
        if let Some(parent) = self.path.last().and_then(|&top| self.nodes.get_mut(top)) {
            *parent = parent.with_flags(parent.flags().with(Flags::WILDCARD_CHILD));
        }
    }
}
