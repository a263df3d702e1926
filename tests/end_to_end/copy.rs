//! COPY and ADD.

use crate::support::Slipway;
use crate::support::image::Image;
use slipway_skip::need_root;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

#[test]
fn files_and_folders_land_where_they_should() {
    let slipway = Slipway::new();
    let files = [("a.txt", "a"), ("b.txt", "b"), ("dir/x", "x"), ("dir/sub/y", "y"), ("with space", "s")];
    let recipe = "FROM base
COPY a.txt /renamed
COPY a.txt b.txt /into/
COPY dir /tree
COPY *.txt /wild/
COPY [\"with space\", \"/spaced file\"]
WORKDIR /here
COPY a.txt .
COPY dir/sub relative/
COPY --chmod=600 --chown=app:staff a.txt /owned
COPY --chown=12:34 dir /numbers
COPY missin[g] a.txt /optional/
COPY <<EOT /inline
written $HOME here
EOT
";
    slipway.build("land", recipe, &files).ok();
    let seen = slipway.shell(
        "land",
        "cat /renamed /into/a.txt /into/b.txt /tree/x /tree/sub/y /wild/b.txt '/spaced file' /here/a.txt \
         /here/relative/y; echo; stat -c '%a %U:%G' /owned; stat -c '%u:%g' /numbers/sub/y; ls /optional",
    );
    assert_eq!(seen, "aabxybsay\n600 app:staff\n12:34\na.txt\n");
    let entries = Image::read(&slipway, "land");
    assert!(entries.layers.iter().flatten().all(|entry| entry.path != "missin[g]"));
}

#[test]
fn context_files_belong_to_root_with_their_own_modes() {
    let slipway = Slipway::new();
    let context = slipway.context("modes", &[("tool", "x"), ("secret", "y"), ("d/z", "z")]);
    fs::set_permissions(context.join("tool"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(context.join("secret"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(context.join("Dockerfile"), "FROM base\nCOPY . /c/\n").unwrap();
    slipway.build_folder("modes", &context, &[]).ok();
    let image = Image::read(&slipway, "modes");
    assert_eq!((image.entry("c/tool").mode, image.entry("c/secret").mode), (0o755, 0o600));
    assert!(image.top().iter().all(|entry| (entry.uid, entry.gid) == (0, 0)), "{:?}", image.paths());
}

#[test]
fn links_in_the_context_stay_links() {
    let slipway = Slipway::new();
    let context = slipway
        .context("linked", &[("d/real", "real"), ("Dockerfile", "FROM base\nCOPY d /d\nCOPY top /top\n")]);
    symlink("real", context.join("d/soft")).unwrap();
    symlink("/nowhere", context.join("d/dangling")).unwrap();
    symlink("d/real", context.join("top")).unwrap();
    fs::hard_link(context.join("d/real"), context.join("d/zz-hard")).unwrap();
    slipway.build_folder("linked", &context, &[]).ok();
    let seen = slipway.shell(
        "linked",
        "readlink /d/soft; readlink /d/dangling; cat /top; test -L /top || echo file; stat -c %h /d/real",
    );
    assert_eq!(seen, "real\n/nowhere\nrealfile\n2\n");
}

#[test]
fn a_linked_destination_is_followed_inside_the_image() {
    let slipway = Slipway::new();
    let recipe = "FROM base
RUN mkdir /real && ln -s /real /link && ln -s ../../../../real /escape && ln -s /real/deep /made
COPY a /link/a
COPY a /escape/b
COPY d /link
COPY a /made/c
";
    slipway.build("followed", recipe, &[("a", "a"), ("d/e", "e")]).ok();
    let seen =
        slipway.shell("followed", "cd /real && ls && readlink /link && readlink /escape && cat deep/c");
    assert_eq!(seen, "a\nb\ndeep\ne\n/real\n../../../../real\na");
}

#[test]
fn the_ignore_file_filters() {
    let slipway = Slipway::new();
    let files = [
        (".dockerignore", "# comment\n*.log\n**/target\n!keep.log\nsecret\n"),
        ("a.log", ""),
        ("keep.log", ""),
        ("d/target/x", ""),
        ("d/file", ""),
        ("secret", ""),
    ];
    slipway.build("ignored", "FROM base\nCOPY . /c/\n", &files).ok();
    assert_eq!(
        slipway.shell("ignored", "cd /c && find . -type f | sort | grep -v ocker"),
        "./d/file\n./keep.log\n"
    );
    let message = slipway.build("asked", "FROM base\nCOPY secret /\n", &files[..6]).fails(1);
    assert!(message.contains("secret") && message.contains("Dockerfile:2"), "{message}");
}

#[test]
fn nothing_outside_the_context_can_be_copied() {
    let slipway = Slipway::new();
    fs::write(slipway.path("outside"), "outside").unwrap();
    let context = slipway.context("jail", &[("in", "in"), ("Dockerfile", "FROM base\nCOPY link /stolen\n")]);
    symlink("../outside", context.join("link")).unwrap();
    symlink("/etc", context.join("absolute")).unwrap();
    let message = slipway.build_folder("jail", &context, &[]).fails(1);
    assert!(message.contains("Dockerfile:2"), "{message}");
    fs::write(context.join("Dockerfile"), "FROM base\nCOPY ../outside /stolen\n").unwrap();
    slipway.build_folder("jail", &context, &[]).fails(1);
    fs::write(context.join("Dockerfile"), "FROM base\nCOPY absolute/hostname /stolen\n").unwrap();
    slipway.build_folder("jail", &context, &[]).fails(1);
}

#[test]
fn add_unpacks_archives() {
    let slipway = Slipway::new();
    let context = slipway
        .context("archives", &[("tree/one", "1"), ("tree/two", "2"), ("plain.tar.gz", "not an archive")]);
    for (flag, name) in [("-cf", "a.tar"), ("-czf", "a.tgz")] {
        let mut tar = std::process::Command::new("tar");
        crate::support::run(tar.args([flag, name, "tree"]).current_dir(&context)).ok();
    }
    let recipe =
        "FROM base\nADD a.tar /plain\nADD a.tgz /zipped/\nADD plain.tar.gz /kept\nCOPY a.tar /copied.tar\n";
    fs::write(context.join("Dockerfile"), recipe).unwrap();
    slipway.build_folder("archives", &context, &[]).ok();
    let seen = slipway.shell(
        "archives",
        "cat /plain/tree/one /zipped/tree/two /kept; echo; tar tf /copied.tar | grep -c tree",
    );
    assert_eq!(seen, "12not an archive\n3\n");
}

#[test]
fn privileged_copy_from_keeps_owners_and_modes() {
    need_root!();
    let slipway = Slipway::new();
    let recipe = "FROM base AS made
RUN mkdir /d && echo x > /d/f && chown 7:8 /d/f && chmod 4711 /d/f && ln /d/f /d/g
FROM base
COPY --from=made /d /d
";
    slipway.build("kept", recipe, &[]).ok();
    let image = Image::read(&slipway, "kept");
    let entry = image.entry("d/f");
    assert_eq!((entry.uid, entry.gid, entry.mode), (7, 8, 0o4711));
    assert_eq!(slipway.shell("kept", "stat -c %h /d/f"), "2\n");
}

#[test]
fn wrong_copies_name_the_line_and_the_reason() {
    let slipway = Slipway::new();
    let files = [("a.txt", "a"), ("dir/x", "x")];
    for (recipe, parts) in [
        ("FROM base\nCOPY a.tx /\n", ["Dockerfile:2", "a.tx"]),
        ("FROM base\nCOPY --from=nosuch a /\n", ["Dockerfile:2", "nosuch"]),
        ("FROM base\nRUN touch /file\nCOPY dir /file\n", ["Dockerfile:3", "/file"]),
        ("FROM base\nCOPY --chown=nobodyhere a.txt /\n", ["Dockerfile:2", "nobodyhere"]),
    ] {
        let message = slipway.build("wrong", recipe, &files).fails(1);
        for part in parts {
            assert!(message.contains(part), "`{part}` for\n{recipe}in\n{message}");
        }
    }
    assert!(!slipway.ok(["images"]).contains("wrong"));
}
