//! Several processes on one store at the same time.

use crate::support::server::Server;
use crate::support::{Slipway, start};

#[test]
fn the_same_build_many_times_at_once() {
    let slipway = Slipway::new();
    let recipe = "FROM base\nRUN echo 1 > /one && sleep 0.1\nCOPY f /\nRUN cat /f > /two\n";
    let context = slipway.context("same", &[("Dockerfile", recipe), ("f", "x")]);
    let started: Vec<_> = (0..6)
        .map(|number| {
            let name = format!("same-{number}");
            start(slipway.command(["build", "--progress", "plain", "-t", &name]).arg(&context))
        })
        .collect();
    for one in started {
        one.wait().ok();
    }
    let first = slipway.digest("same-0");
    for number in 1..6 {
        assert_eq!(slipway.digest(&format!("same-{number}")), first);
    }
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

#[test]
fn different_work_at_once() {
    let slipway = Slipway::new();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let remote = server.name("remote:1");
    let maker = slipway.another("maker");
    maker.import_base();
    maker.build(&remote, "FROM base\nRUN echo remote > /remote\n", &[]).ok();
    maker.ok(["push", &remote]);
    let mut started = Vec::new();
    for number in 0..4 {
        let recipe = format!("FROM base\nRUN echo {number} > /n\nRUN rm /etc/motd\n");
        let context = slipway.context(&format!("different-{number}"), &[("Dockerfile", &recipe)]);
        let name = format!("different-{number}");
        started.push(start(slipway.command(["build", "--progress", "plain", "-t", &name]).arg(context)));
        started.push(start(&mut slipway.command(["pull", &remote])));
        started.push(start(&mut slipway.command(["run", "--rm", "base", "true"])));
        started.push(start(&mut slipway.command(["tag", "base", &format!("tagged-{number}")])));
        started.push(start(&mut slipway.command(["images"])));
    }
    for one in started {
        one.wait().ok();
    }
    for number in 0..4 {
        assert_eq!(slipway.shell(&format!("different-{number}"), "cat /n"), format!("{number}\n"));
    }
    assert_eq!(slipway.shell(&remote, "cat /remote"), "remote\n");
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

#[test]
fn removing_while_others_build_hurts_nobody() {
    let slipway = Slipway::new();
    let mut started = Vec::new();
    for number in 0..4 {
        let recipe = format!("FROM base\nRUN echo {number} > /n && sleep 0.2\nRUN cat /n > /m\n");
        let context = slipway.context(&format!("removed-{number}"), &[("Dockerfile", &recipe)]);
        started.push(start(slipway.command(["build", "-t", &format!("kept-{number}")]).arg(&context)));
        slipway.build_folder("gone", &context, &[]).ok();
        slipway.ok(["rmi", "gone"]);
    }
    for one in started {
        one.wait().ok();
    }
    for number in 0..4 {
        assert_eq!(slipway.shell(&format!("kept-{number}"), "cat /m"), format!("{number}\n"));
    }
}
