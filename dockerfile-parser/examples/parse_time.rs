//! Measures how long parsing a recipe of ten thousand lines takes.
//!
//! ```sh
//! cargo run --release -p slipway-dockerfile --example parse_time [ROUNDS]
//! ```

use std::time::Instant;

/// Lines of the recipe.
const LINES: usize = 10_000;

/// The rounds that are timed unless another number is given.
const ROUNDS: usize = 101;

/// Every kind of instruction, continuations, comments and heredocs in the proportions of real recipes.
const PIECE: &str = r#"
# stage NUMBER
FROM --platform=$BUILDPLATFORM alpine:3.20 AS stage-NUMBER
ARG VERSION=1.2.NUMBER
ENV PATH="/opt/tool/bin:$PATH" \
    # where things are
    HOME=/root
LABEL org.opencontainers.image.version="${VERSION}" maintainer=team
WORKDIR /src
COPY --link --chown=1000:1000 Cargo.toml Cargo.lock ./
RUN --mount=type=cache,target=/root/.cache,sharing=locked \
    --mount=type=secret,id=token \
    apk add --no-cache build-base curl git && \
    curl -fsSL "https://example.org/tool-${VERSION}.tar.gz" | tar xz -C /opt && \
    # tidy up
    rm -rf /tmp/*
RUN <<EOF
set -eu
echo "building NUMBER"
make -j"$(nproc)"
EOF
COPY --from=stage-0 ["/a b", "/c/"]
HEALTHCHECK --interval=30s CMD ["curl", "-f", "http://localhost/"]
EXPOSE 80 443/tcp
USER 1000:1000
ENTRYPOINT ["/usr/bin/tool", "--serve"]
"#;

fn recipe() -> String {
    let mut text = String::new();
    for number in 0.. {
        text += &PIECE.replace("NUMBER", &number.to_string());
        if text.lines().count() >= LINES {
            break;
        }
    }
    let cut = text.match_indices('\n').nth(LINES - 1).map_or(text.len(), |(at, _)| at + 1);
    text.truncate(cut);
    text
}

fn median(rounds: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(ROUNDS).max(1);
    let text = recipe();
    println!("{} lines, {} bytes, median of {rounds}", text.lines().count(), text.len());
    let parsed = slipway_dockerfile::parse(&text);
    let parse = median(rounds, || drop(slipway_dockerfile::parse(&text)));
    let lower = median(rounds, || drop(slipway_dockerfile::lower(&parsed.file)));
    let format = median(rounds.min(11), || drop(slipway_dockerfile::format::format(&text)));
    println!("parse  {parse:8.2} ms  ({} instructions)", parsed.file.nodes.len());
    println!("lower  {lower:8.2} ms");
    println!("format {format:8.2} ms");
}
