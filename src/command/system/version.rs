//! `slipway version`.

use crate::{
    error::Failure,
    show::{self, template},
};
use serde_json::{Value, json};

/// Show this program's version, and what it and the machine can do.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A template in docker's syntax, or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// The commit that the program was made from, where its maker said so (`cargo xtask build` does).
const COMMIT: Option<&str> = option_env!("SLIPWAY_COMMIT");

/// What is compiled in and may be asked for.
const FEATURES: [&str; 10] = [
    "dockerfile-1",
    "oci-image-1.1",
    "oci-distribution-1.1",
    "zstd",
    "gzip",
    "bzip2",
    "xz",
    "git-contexts",
    "cdi-devices",
    "tls",
];

/// Carries the command out. It needs neither store nor privilege.
pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let report = slipway_runtime::host::probe();
    let value = value(&report);
    match arguments.format.as_deref() {
        Some("json") => show::say(value)?,
        Some(format) => show::say(template::render(format, &value)?)?,
        None => show::say(text(&value))?,
    }
    Ok(0)
}

/// The keys of `docker version --format json`; client and server are one program.
fn value(report: &slipway_runtime::host::Report) -> Value {
    let program = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "GitCommit": COMMIT.unwrap_or("unknown"),
        "Os": std::env::consts::OS,
        "Arch": slipway_oci::Platform::host().architecture,
        "KernelVersion": report.kernel,
    });
    let limits = [report.cgroup1_controllers.as_slice(), &report.cgroup2_controllers].concat();
    json!({
        "Client": program,
        "Server": program,
        "Features": FEATURES,
        "Machine": {
            "Sandbox": report.tier.name(),
            "Overlay": report.overlay,
            "Seccomp": report.seccomp,
            "UserNamespaces": report.max_user_namespaces > 0 && !report.apparmor_restricts_user_namespaces,
            "Namespaces": report.namespaces,
            "Limits": limits,
        },
    })
}

/// The same for people.
fn text(value: &Value) -> String {
    let (program, machine) = (&value["Client"], &value["Machine"]);
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| {
        let words: Vec<String> = value.as_array().into_iter().flatten().map(word).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(" ") }
    };
    let whether = |value: &Value| if value == &Value::Bool(true) { "yes" } else { "no" }.to_owned();
    let lines = [
        ("Version:", word(&program["Version"])),
        ("Commit:", word(&program["GitCommit"])),
        ("OS/Arch:", format!("{}/{}", word(&program["Os"]), word(&program["Arch"]))),
        ("Features:", list(&value["Features"])),
        ("Kernel:", word(&program["KernelVersion"])),
        ("Sandbox:", word(&machine["Sandbox"])),
        ("Overlay:", whether(&machine["Overlay"])),
        ("Seccomp:", whether(&machine["Seccomp"])),
        ("User namespaces:", whether(&machine["UserNamespaces"])),
        ("Limits:", list(&machine["Limits"])),
    ];
    let shown: Vec<String> = lines.iter().map(|(name, value)| format!("{name:<17}{value}")).collect();
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_keys_and_ours_are_there() {
        let value = value(&slipway_runtime::host::probe());
        for template in [
            "{{.Client.Version}}",
            "{{.Server.Version}}",
            "{{.Client.GitCommit}}",
            "{{.Server.Os}}/{{.Server.Arch}}",
            "{{.Server.KernelVersion}}",
            "{{json .Features}}",
            "{{.Machine.Sandbox}}",
        ] {
            let shown = template::render(template, &value).expect(template);
            assert!(!shown.is_empty() && !shown.contains("<no value>"), "{template}: {shown}");
        }
        let text = text(&value);
        assert!(text.starts_with(&format!("Version:         {}\n", env!("CARGO_PKG_VERSION"))), "{text}");
        assert!(text.contains("\nSandbox:") && text.contains("zstd"), "{text}");
    }
}
