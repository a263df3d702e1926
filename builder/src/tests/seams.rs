//! The borders of a build: what is exported, whose switch is thrown, how many stages work at a time.

use super::{Bench, words};
use crate::{
    BuildError, BuiltImage, Environment, Event, Exporter, Finished, NamedContext, Operation, Progress,
    StepDescription, StepError, WorkdirStep,
};
use slipway_oci::{Descriptor, spec::to_json};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::{Condvar, Mutex},
    time::Duration,
};

/// Keeps nothing but the words.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Exporter for Told {
    fn export(&self, _: &Environment<'_>, finished: &Finished<'_>) -> Result<BuiltImage, StepError> {
        let ids: Vec<_> = finished.layers.iter().map(|form| form.diff_id.clone()).collect();
        assert_eq!(finished.config.rootfs.diff_ids, ids);
        let labels = finished.config.config.labels.clone().unwrap_or_default();
        let created = finished.config.created.clone().unwrap_or_default();
        self.0.lock().expect("told").push(format!("{} layers, {labels:?}, {created}", ids.len()));
        let manifest = Descriptor::of("x/y", &to_json(&finished.config));
        Ok(BuiltImage { config: manifest.digest.clone(), manifest })
    }
}

#[test]
fn an_exporter_gets_the_finished_target_and_nothing_is_stored_beside_it() {
    let bench = Bench::new().with(&["a", "b"]);
    let told = Told::default();
    let mut request = bench.request("FROM scratch AS first\nCOPY a /\nFROM first\nCOPY b /\nLABEL own=1\n");
    request.labels = BTreeMap::from([("given".to_owned(), "2".to_owned())]);
    bench.build_to(&request, &told).expect("built");
    request.target = Some("first".to_owned());
    bench.build_to(&request, &told).expect("built");
    let expected = [
        r#"2 layers, {"given": "2", "own": "1"}, 2001-09-09T01:46:40Z"#,
        r#"1 layers, {"given": "2"}, 2001-09-09T01:46:40Z"#,
    ];
    assert_eq!(*told.0.lock().expect("told"), expected);
    assert!(bench.store.list_images().expect("images").is_empty());
}

#[test]
fn a_builds_failure_is_its_own_and_its_callers_switch_ends_it() {
    let bench = Bench::new().with(&["a"]);
    assert!(bench.fails("FROM scratch\nCOPY nothing /\n").contains("nothing"));
    assert!(!bench.cancel.is_cancelled(), "the caller's switch was thrown");
    bench.build("FROM scratch\nCOPY a /\n").expect("the next build of the same caller");
    bench.cancel.cancel();
    let error = bench.build("FROM scratch\nCOPY a /\n").expect_err("thrown");
    assert!(matches!(error, BuildError::Cancelled), "{}", words(&error));
}

/// Counts the stages that are at work. Each waits at its first step until `meet` of them are there, or a while.
struct Crowd {
    meet: usize,
    state: Mutex<(BTreeSet<String>, usize)>,
    moved: Condvar,
    steps: Mutex<BTreeMap<usize, (String, bool)>>,
}

impl Progress for Crowd {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Started { step, stage, number, total, .. } => {
                self.steps.lock().expect("steps").insert(step, (stage.to_owned(), number == total));
                let mut state = self.state.lock().expect("state");
                state.0.insert(stage.to_owned());
                state.1 = state.1.max(state.0.len());
                self.moved.notify_all();
                let patience = Duration::from_secs(if self.meet > 1 { 20 } else { 0 });
                let most = |state: &mut (BTreeSet<String>, usize)| state.1 < self.meet;
                drop(self.moved.wait_timeout_while(state, patience, most).expect("state"));
            }
            Event::Finished { step, .. } => {
                let (stage, is_last) = self.steps.lock().expect("steps")[&step].clone();
                if is_last {
                    self.state.lock().expect("state").0.remove(&stage);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn jobs_bound_how_many_stages_work_at_a_time() {
    let names = ["a", "b", "c", "d", "e"];
    let stages: String =
        names.iter().map(|name| format!("FROM scratch AS {name}\nCOPY <<x /{name}\n{name}\nx\n")).collect();
    let copies: String = names.iter().map(|name| format!("COPY --from={name} /{name} /\n")).collect();
    let bench = Bench::new();
    for (jobs, meet, expected) in
        [(None, 5, 5..=6), (Some(1), 1, 1..=1), (Some(2), 2, 2..=2), (Some(9), 5, 5..=5)]
    {
        let mut request = bench.request(&format!("{stages}FROM scratch\n{copies}"));
        request.jobs = jobs.and_then(NonZeroUsize::new);
        request.no_cache = true;
        let crowd = Crowd { meet, state: Mutex::default(), moved: Condvar::new(), steps: Mutex::default() };
        let environment = Environment { progress: &crowd, ..bench.environment() };
        let built = crate::build(&request, &environment, &Told::default()).expect("built");
        assert_eq!(built.executed_steps, 10);
        let most = crowd.state.lock().expect("state").1;
        assert!(expected.contains(&most), "{jobs:?}: {most} at a time");
    }
}

#[test]
fn a_bounded_build_of_a_deep_graph_ends() {
    let bench = Bench::new();
    for jobs in [1, 2, 3] {
        let mut recipe = String::from("FROM scratch AS s0\nCOPY <<x /0\n0\nx\n");
        for index in 1..20_usize {
            let (one, other) = (index - 1, index / 2);
            recipe += &format!(
                "FROM s{other} AS s{index}\nCOPY --from=s{one} /{one} /{index}\nCOPY --from=s{other} / /all{index}/\n"
            );
        }
        let mut request = bench.request(&recipe);
        request.jobs = NonZeroUsize::new(jobs);
        request.no_cache = true;
        bench.build_as(&request, &[]).expect("built");
    }
}

#[test]
fn a_named_folder_and_an_image_of_the_store_need_nobody() {
    let bench = Bench::new().with(&["one/a", "two/b"]);
    bench.build_as(&bench.request("FROM scratch\nCOPY one /\n"), &["base"]).expect("base");
    let mut request = bench.request("FROM base\nCOPY --from=more / /\nCOPY --from=base /a /again\n");
    request.context = None;
    request.contexts.insert("more".to_owned(), NamedContext::Folder(bench.context().join("two")));
    let built = bench.build_as(&request, &[]).expect("built");
    assert_eq!(bench.listing(&built), ["a 644 0:0", "again 644 0:0", "b 644 0:0"]);
    assert!(bench.images.0.lock().expect("asked").is_empty());
    let words = bench.fails("FROM elsewhere/x:1\n");
    assert!(words.contains("nobody has") && words.contains("elsewhere/x:1"), "{words}");
}

#[test]
fn a_result_is_kept_with_what_its_key_is_a_digest_of() {
    let bench = Bench::new();
    bench.build("FROM scratch\nWORKDIR /app\n").expect("built");
    let step = WorkdirStep { path: "/app".into(), user: String::new(), latest_time: Some(1_000_000_000) };
    let description = StepDescription::new(Some(crate::key::chain_id([])), Operation::Workdir(step));
    let kept = bench.store.cached_description(&description.key()).expect("read").expect("kept");
    assert_eq!(serde_json::from_str::<StepDescription>(&kept).expect("a description"), description);
}
