//! The chart as users get it: rendered by Helm 3 and 4, and looked at object by object.

mod configuration;
mod helm;
mod isolation;
mod kube_image_keeper_v1;
mod metrics;
mod objects;
mod schemas;
mod storage;
mod webhook;

use helm::{Chart, Objects, chart};
