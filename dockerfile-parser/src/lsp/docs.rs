//! What hovering shows and completion offers, in words of our own.

/// An instruction: keyword, how it is written, what it does.
pub(super) const INSTRUCTIONS: &[(&str, &str, &str)] = &[
    (
        "ADD",
        "ADD [flags] source… destination",
        "Copies files into the image, and more: a local archive is unpacked, a URL fetched, a git repository checked out. For plain files COPY is the better word.",
    ),
    (
        "ARG",
        "ARG name[=default] …",
        "Declares a build argument, set with `--build-arg`. Before the first FROM it serves the FROM lines; a stage that needs it declares it again. It is not part of the image.",
    ),
    (
        "CMD",
        "CMD [\"program\", \"argument\"…]",
        "The default command of a container, or the default arguments of ENTRYPOINT. The last one counts. The array form runs without a shell and gets signals.",
    ),
    (
        "COPY",
        "COPY [flags] source… destination",
        "Copies files from the build context, or with `--from` from another stage, image or named context. A directory gives its contents, not itself.",
    ),
    (
        "ENTRYPOINT",
        "ENTRYPOINT [\"program\", \"argument\"…]",
        "The program that a container runs; CMD or the command line give its arguments. Clears a CMD of the base image.",
    ),
    (
        "ENV",
        "ENV key=value …",
        "Sets environment variables for later steps and for containers. Values of one line do not see each other.",
    ),
    (
        "EXPOSE",
        "EXPOSE port[/protocol] …",
        "Says which ports the program listens on. It opens nothing by itself.",
    ),
    (
        "FROM",
        "FROM [--platform=p] base [AS name]",
        "Begins a stage from an image, an earlier stage or `scratch`. Only stages that the target needs are built.",
    ),
    (
        "HEALTHCHECK",
        "HEALTHCHECK [flags] CMD command | NONE",
        "How to tell whether a container is well. NONE drops a check of the base image.",
    ),
    ("LABEL", "LABEL key=value …", "Metadata of the image. It never makes a later step run again."),
    ("MAINTAINER", "MAINTAINER name", "Names the author. Deprecated: use a label."),
    (
        "ONBUILD",
        "ONBUILD instruction",
        "An instruction that runs at the start of every build from this image.",
    ),
    (
        "RUN",
        "RUN [flags] command | [\"program\"…] | <<EOF",
        "Runs a command and keeps what it changed as a layer. A heredoc holds a script; begin it with `set -e`, or only its last line's failure counts.",
    ),
    (
        "SHELL",
        "SHELL [\"program\", \"argument\"…]",
        "The words before the text of shell-form RUN, CMD and ENTRYPOINT.",
    ),
    ("STOPSIGNAL", "STOPSIGNAL signal", "The signal that asks a container to stop: a name or number."),
    (
        "USER",
        "USER user[:group]",
        "Who runs later steps and containers. COPY and ADD are not affected; they have `--chown`.",
    ),
    ("VOLUME", "VOLUME path …", "Marks directories that containers get a volume for."),
    (
        "WORKDIR",
        "WORKDIR path",
        "The directory of later steps and of containers; created if missing. A relative path goes on from the last one.",
    ),
    ("INCLUDE", "INCLUDE path", "An extension: the text of another file of the context in this place."),
    (
        "UNSET",
        "UNSET kind [name…]",
        "An extension: drops what the base image set, as far as a standard instruction can.",
    ),
];

/// A flag: instructions that have it, name, what it does.
pub(super) const FLAGS: &[(&str, &str, &str)] = &[
    ("FROM", "--platform", "The platform of the base image, such as `linux/arm64` or `$BUILDPLATFORM`."),
    (
        "RUN",
        "--mount",
        "Mounts something for this command only: `type=bind`, `cache`, `tmpfs`, `secret` or `ssh`.",
    ),
    ("RUN", "--network", "The command's network: `default`, `none` or `host`."),
    ("RUN", "--security", "`sandbox`, or `insecure` for all privileges; the latter must be allowed."),
    ("RUN", "--device", "A device by its CDI name; `,required` fails the build without it."),
    ("COPY", "--from", "A stage's name or number, a named context or an image to copy from."),
    ("COPY ADD", "--chown", "Owner of the copies: `user[:group]`, names or numbers."),
    ("COPY ADD", "--chmod", "Mode of the copies: octal such as `0755`, or symbolic such as `u=rwX,go=rX`."),
    (
        "COPY ADD",
        "--link",
        "Makes a layer that does not depend on what is below, so that it outlives changes there.",
    ),
    ("COPY ADD", "--exclude", "A pattern of files to leave out; may be repeated."),
    ("COPY", "--parents", "Keeps the directories of the source path; `/./` marks where they begin."),
    ("COPY", "--optional", "An extension: a missing source is no error."),
    ("ADD", "--checksum", "What the fetched file must hash to: `sha256:…`; for git the commit."),
    ("ADD", "--keep-git-dir", "Keeps the `.git` directory of a repository."),
    ("ADD", "--unpack", "Whether archives are unpacked: by default local ones are, fetched ones are not."),
    ("HEALTHCHECK", "--interval", "Time between two checks, 30s by default."),
    ("HEALTHCHECK", "--timeout", "Time after which a check has failed, 30s by default."),
    ("HEALTHCHECK", "--start-period", "Time at the start in which failures do not count."),
    ("HEALTHCHECK", "--start-interval", "Time between two checks in the start period, 5s by default."),
    ("HEALTHCHECK", "--retries", "Failures in a row that make the container unhealthy, 3 by default."),
];

/// A type of mount and what it is for.
pub(super) const MOUNT_TYPES: &[(&str, &str)] = &[
    (
        "bind",
        "Files of the context, a stage or an image, read-only. With `rw` the command writes to a copy that is thrown away.",
    ),
    (
        "cache",
        "A directory kept from build to build, for compilers and package managers. Never part of the image.",
    ),
    ("tmpfs", "An empty directory in memory."),
    (
        "secret",
        "A secret as a file below `/run/secrets`, or with `env` as a variable. Never part of the image.",
    ),
    ("ssh", "The socket of an SSH agent, for private repositories."),
];

/// A key of `--mount`: its types (empty: all), name and meaning.
pub(super) const MOUNT_KEYS: &[(&str, &str, &str)] = &[
    ("", "type", "What is mounted: bind, cache, tmpfs, secret or ssh; bind by default."),
    ("", "target", "Where it appears. `dst` and `destination` are the same."),
    (
        "bind cache secret",
        "source",
        "The directory or file within `from`; for a secret its name. `src` is the same.",
    ),
    ("bind cache", "from", "The stage, named context or image to mount from; the build context by default."),
    ("bind cache", "readonly", "Whether the command may only read. `ro` is the same."),
    ("bind cache", "readwrite", "Whether the command may write. `rw` is the same."),
    ("cache secret ssh", "id", "The name that tells caches, secrets or agents apart."),
    ("cache", "sharing", "How builds at the same time share a cache: `shared`, `private` or `locked`."),
    ("cache secret ssh", "mode", "Mode of the directory, file or socket, octal."),
    ("cache secret ssh", "uid", "Owner, a number."),
    ("cache secret ssh", "gid", "Group, a number."),
    ("tmpfs", "size", "Largest size, such as `64m`."),
    ("secret ssh", "required", "Whether the build fails without it."),
    ("secret", "env", "The variable that holds the secret."),
];

/// The keys that are other names of a key.
pub(super) fn mount_key(name: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    let name = match name {
        "dst" | "destination" => "target",
        "src" => "source",
        "ro" => "readonly",
        "rw" => "readwrite",
        other => other,
    };
    MOUNT_KEYS.iter().find(|key| key.1 == name)
}

/// The instruction of that name, in any case.
pub(super) fn instruction(name: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    INSTRUCTIONS.iter().find(|known| known.0.eq_ignore_ascii_case(name))
}

/// The flags of an instruction.
pub(super) fn flags(
    keyword: &str,
) -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str)> {
    let keyword = keyword.to_ascii_uppercase();
    FLAGS.iter().filter(move |flag| flag.0.split(' ').any(|own| own == keyword))
}
