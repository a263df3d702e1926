//! The real binary, end to end. One program for all subjects, because linking each costs more than running it.

#[path = "../support/mod.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
// a library of its own, not all of which every subject uses
mod support;

#[path = "../conformance/file_server.rs"]
mod file_server;

mod access;
mod adopting;
mod agents;
mod bake;
mod bare;
mod build;
mod builds;
mod cache;
mod caches;
mod callers;
mod carried;
mod changes;
mod cli;
mod clients;
mod clustered;
mod collection;
mod conforming;
mod contexts;
mod copy;
mod crash;
mod crowds;
mod debugged;
mod documented;
mod drawn;
mod examples;
mod exports;
mod failures;
mod faults;
mod files;
mod filter;
mod full;
mod help;
mod histories;
mod hostile;
mod indexes;
mod interop;
mod keeping;
mod kept;
mod killed;
mod layers;
mod linear;
mod listen;
mod listings;
mod login;
mod mirrored;
mod newer;

mod moving;
mod outside;
mod ownership;
mod page;
mod peers;
mod pipelines;
mod places;
mod plumbing;
mod private;
mod processes;
mod prune;
mod quotas;
mod registry;
mod remote;
mod renewed;
mod replicas;
mod replicas_kept;
mod reproducible;
mod rootless;
mod run;
mod secrets;
mod sequences;
mod shapes;
mod stop;
mod store;
mod streams;
mod travelling;
mod trust;
mod typed;
mod umask;
mod visitors;
mod watched;
