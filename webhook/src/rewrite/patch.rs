//! A small JSON patch: only what differs, and valid whatever maps the pod has.

use std::collections::BTreeMap;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::{Value, json};

use crate::pod::Pod;

/// Collects changes to one pod.
pub(super) struct PatchBuilder<'pod> {
    operations: Vec<PatchOperation>,
    labels: MapChanges<'pod>,
    annotations: MapChanges<'pod>,
}

/// Changes to a map that may not be there.
struct MapChanges<'pod> {
    name: &'static str,
    current: Option<&'pod BTreeMap<String, String>>,
    wanted: BTreeMap<String, Option<String>>,
}

impl<'pod> PatchBuilder<'pod> {
    pub(super) fn new(pod: &'pod Pod) -> Self {
        Self {
            operations: Vec::new(),
            labels: MapChanges::new("labels", pod.metadata.labels.as_ref()),
            annotations: MapChanges::new("annotations", pod.metadata.annotations.as_ref()),
        }
    }

    /// Replaces the text at `path`, which is there.
    pub(super) fn replace(&mut self, path: &[String], text: &str) {
        self.operations.push(PatchOperation::Replace(ReplaceOperation {
            path: PointerBuf::from_tokens(path),
            value: json!(text),
        }));
    }

    /// Sets a label.
    pub(super) fn label(&mut self, key: &str, value: &str) {
        self.labels.wanted.insert(key.to_owned(), Some(value.to_owned()));
    }

    /// Sets an annotation, or sees to it that there is none.
    pub(super) fn annotation(&mut self, key: &str, value: Option<&str>) {
        self.annotations.wanted.insert(key.to_owned(), value.map(str::to_owned));
    }

    pub(super) fn build(self) -> Patch {
        let maps = [self.labels, self.annotations];
        let changes = maps.into_iter().flat_map(MapChanges::operations);
        Patch(self.operations.into_iter().chain(changes).collect())
    }
}

impl<'pod> MapChanges<'pod> {
    fn new(name: &'static str, current: Option<&'pod BTreeMap<String, String>>) -> Self {
        Self {
            name,
            current,
            wanted: BTreeMap::new(),
        }
    }

    fn operations(self) -> Vec<PatchOperation> {
        let Some(current) = self.current else {
            return self.add_whole().into_iter().collect();
        };
        let operation = |(key, wanted): (&String, &Option<String>)| {
            let path = PointerBuf::from_tokens(["metadata", self.name, key.as_str()]);
            match (current.get(key), wanted) {
                (None, Some(value)) => Some(add(path, json!(value))),
                (Some(now), Some(value)) if now != value => Some(PatchOperation::Replace(ReplaceOperation {
                    path,
                    value: json!(value),
                })),
                (Some(_), None) => Some(PatchOperation::Remove(RemoveOperation { path })),
                (Some(_), Some(_)) | (None, None) => None,
            }
        };
        self.wanted.iter().filter_map(operation).collect()
    }

    fn add_whole(self) -> Option<PatchOperation> {
        let entries = self.wanted.into_iter();
        let entries: BTreeMap<_, _> = entries.filter_map(|(key, value)| Some((key, value?))).collect();
        let path = PointerBuf::from_tokens(["metadata", self.name]);
        (!entries.is_empty()).then(|| add(path, json!(entries)))
    }
}

fn add(path: PointerBuf, value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path, value })
}
