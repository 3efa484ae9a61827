//! Workflows: definitions of steps that may wait, and what is to be done next in one that has come so far.
//!
//! Pure: [`definition`] reads what an operator wrote, [`Progress`] is what has happened to an execution, and [`engine`] says from the two
//! what follows. The runtime makes it happen, and writes it down before it counts.

pub mod definition;
pub mod engine;
mod form;
mod progress;
mod reader;

use std::{collections::BTreeMap, sync::Arc};

pub use self::{
    definition::{Action, Step, Workflow},
    engine::{Due, Execution, Plan, What},
    form::Form,
    progress::{Begun, Progress},
};

/// All workflows of a hub. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Workflows(Arc<BTreeMap<String, Arc<Workflow>>>);

impl Workflows {
    /// These, if they fit together.
    ///
    /// # Errors
    /// All that is wrong: a step that executes a workflow there is not, or one that leads back to its own; two with one id.
    pub fn new(workflows: impl IntoIterator<Item = Workflow>) -> Result<Self, Vec<String>> {
        let mut by_id = BTreeMap::new();
        let mut wrong = Vec::new();
        for workflow in workflows {
            let id = workflow.id.clone();
            if by_id.insert(id.clone(), Arc::new(workflow)).is_some() {
                wrong.push(format!("two workflows have the id {id}"));
            }
        }
        for workflow in by_id.values() {
            for nested in workflow.executes() {
                if !by_id.contains_key(nested) {
                    wrong.push(format!("{}: there is no workflow {nested}", workflow.id));
                }
            }
            if let Some(way) = circle(&by_id, workflow) {
                wrong.push(format!("{}: it executes itself ({})", workflow.id, way.join(" → ")));
            }
        }
        if wrong.is_empty() { Ok(Self(Arc::new(by_id))) } else { Err(wrong) }
    }

    /// The workflow with this id.
    pub fn get(&self, id: &str) -> Option<&Arc<Workflow>> {
        self.0.get(id)
    }

    /// Every workflow, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Workflow>> {
        self.0.values()
    }
}

/// The way on which a workflow comes back to itself.
fn circle(all: &BTreeMap<String, Arc<Workflow>>, from: &Workflow) -> Option<Vec<String>> {
    let mut ways: Vec<Vec<String>> = vec![vec![from.id.clone()]];
    let mut seen: Vec<String> = Vec::new();
    while let Some(way) = ways.pop() {
        let Some(at) = way.last().and_then(|id| all.get(id)) else { continue };
        for next in at.executes() {
            let mut way = way.clone();
            way.push(next.to_owned());
            if next == from.id {
                return Some(way);
            }
            if !seen.iter().any(|id| id == next) {
                seen.push(next.to_owned());
                ways.push(way);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
