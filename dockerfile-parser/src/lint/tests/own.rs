//! Slipway's own rules: fires, does not fire, skipped.

use super::{lint, messages, options, run};
use crate::lint::fix;

#[test]
fn apt() {
    run(
        "SW1001",
        &[
            ("FROM debian\nRUN apt-get install curl\n", &["SW1001:2"]),
            ("FROM debian\nRUN apt-get update && \\\n    apt-get -q install curl\n", &["SW1001:3"]),
            ("FROM debian\nRUN [\"apt-get\", \"install\", \"curl\"]\n", &["SW1001:2"]),
            ("FROM debian\nRUN <<EOF\nset -e\napt-get install curl\nEOF\n", &["SW1001:4"]),
            (
                "FROM debian\nRUN apt-get install -y curl\nRUN apt-get -yq install a\nRUN apt-get install --yes a\nRUN apt-get -qq install a\n",
                &[],
            ),
            (
                "FROM debian\nRUN yes | apt-get install a\nRUN apt-get -o APT::Get::Assume-Yes=true install a\n",
                &[],
            ),
            (
                "FROM debian\nRUN apt-get $APT_OPTS install a\nRUN echo apt-get install\nRUN apt-get update\n",
                &[],
            ),
            (
                "FROM debian\nRUN echo 'APT::Get::Assume-Yes \"true\";' > /etc/apt/apt.conf.d/90yes\nRUN apt-get install a\n",
                &[],
            ),
            (
                "FROM debian\n# check=skip=SW1001\nRUN apt-get install a\n# check=skip=AptWithoutYes\nRUN apt-get install a\n",
                &[],
            ),
        ],
    );
    run(
        "SW1002",
        &[
            ("FROM debian\nRUN apt-get install -y curl\n", &["SW1002:2"]),
            ("FROM debian\nRUN DEBIAN_FRONTEND=noninteractive apt-get -y install curl\n", &["SW1002:2"]),
            ("FROM debian\nRUN apt-get install -y --no-install-recommends curl\n", &[]),
            ("FROM debian\nRUN apt-get -o APT::Install-Recommends=false install -y curl\n", &[]),
            ("# check=skip=AptRecommends\nFROM debian\nRUN apt-get install -y curl\n", &[]),
        ],
    );
    run(
        "SW1003",
        &[
            ("FROM debian\nRUN apt-get update && apt-get install -y curl\n", &["SW1003:2"]),
            ("FROM debian\nRUN apt-get update; apt-get install -y curl; apt-get clean\n", &["SW1003:2"]),
            ("FROM debian\nRUN apt-get update && apt-get install -y a && rm -rf /var/lib/apt/lists/*\n", &[]),
            (
                "FROM debian\nRUN --mount=type=cache,target=/var/lib/apt,sharing=locked apt-get update && apt-get install -y a\n",
                &[],
            ),
            ("FROM debian\nRUN apt-get install -y a\n", &[]),
            ("# check=skip=SW1003\nFROM debian\nRUN apt-get update && apt-get install -y curl\n", &[]),
        ],
    );
    run(
        "SW1004",
        &[
            ("FROM debian\nRUN apt-get update\nRUN apt-get install -y a\n", &["SW1004:2"]),
            ("FROM alpine\nRUN apk update\n", &["SW1004:2"]),
            ("FROM debian\nRUN apt-get update && apt-get install -y a\n", &[]),
            (
                "FROM debian\nRUN apt-get update && ./install.sh\nRUN apt-get update && rm -rf /var/lib/apt/lists/*\n",
                &[],
            ),
            ("FROM debian\n# check=skip=UpdateAlone\nRUN apt-get update\n", &[]),
        ],
    );
    run(
        "SW1005",
        &[
            ("FROM debian\nRUN apt-get update && apt-get -y dist-upgrade\n", &["SW1005:2"]),
            ("FROM alpine\nRUN apk upgrade --no-cache\n", &["SW1005:2"]),
            ("FROM fedora\nRUN dnf -y update && dnf clean all\n", &["SW1005:2"]),
            ("FROM debian\nRUN apt-get install -y --only-upgrade libssl3=3\n", &[]),
            ("FROM fedora\nRUN dnf -y update openssl && dnf clean all\n", &[]),
            ("FROM debian\n# check=skip=SW1005\nRUN apt-get -y upgrade\n", &[]),
        ],
    );
    run(
        "SW1006",
        &[
            ("FROM debian\nRUN apt update\n", &["SW1006:2"]),
            ("FROM debian\nRUN apt-get update && apt install -y a\n", &["SW1006:2"]),
            ("FROM debian\nRUN apt-get install -y a\n", &[]),
            ("FROM debian\nRUN echo apt install; apt list --installed\n", &[]),
            ("FROM debian\n# check=skip=all\nRUN apt update\n", &[]),
        ],
    );
    run(
        "SW1007",
        &[
            ("FROM debian\nRUN apt-get install -y curl git=1:2 vim\n", &["SW1007:2"]),
            ("FROM debian\nRUN apt-get install -y curl\n", &["SW1007:2"]),
            ("FROM debian\nRUN apt-get install -y curl=7.* ./x.deb /tmp/y.deb foo/stable $PKGS\n", &[]),
            ("FROM debian\nRUN apt-get install -y -t bookworm-backports curl=1\n", &[]),
            ("# check=skip=AptUnpinned\nFROM debian\nRUN apt-get install -y curl\n", &[]),
        ],
    );
    assert_eq!(
        messages("FROM debian\nRUN apt-get install -y a b c d\n", &options(), "SW1007"),
        ["`a`, `b` and 2 more have no version"]
    );
}

#[test]
fn other_package_managers() {
    run(
        "SW1011",
        &[
            ("FROM alpine\nRUN apk add git\n", &["SW1011:2"]),
            ("FROM alpine\nRUN apk update && apk add git=1\n", &["SW1011:2"]),
            ("FROM alpine\nRUN apk add --no-cache git=1\nRUN apk --no-cache add git=1\n", &[]),
            (
                "FROM alpine\nRUN apk add git=1 && rm -rf /var/cache/apk/*\nRUN --mount=type=cache,target=/var/cache/apk apk add a=1\n",
                &[],
            ),
            ("FROM alpine\n# check=skip=ApkCacheKept\nRUN apk add git\n", &[]),
        ],
    );
    run(
        "SW1012",
        &[
            ("FROM alpine\nRUN apk add --no-cache git\n", &["SW1012:2"]),
            ("FROM alpine\nRUN apk add --no-cache -t .build gcc\n", &["SW1012:2"]),
            ("FROM alpine\nRUN apk add --no-cache 'git>2' vim=1 nano~=7 x@edge --virtual .deps\n", &[]),
            ("FROM alpine\nRUN apk add --no-cache $PKGS ./x.apk\n", &[]),
            ("# check=skip=SW1012\nFROM alpine\nRUN apk add --no-cache git\n", &[]),
        ],
    );
    run(
        "SW1021",
        &[
            ("FROM python:3\nRUN pip install flask==3\n", &["SW1021:2"]),
            ("FROM python:3\nRUN python3 -m pip install -r requirements.txt\n", &["SW1021:2"]),
            (
                "FROM python:3\nRUN pip install --no-cache-dir flask==3\nRUN pip --no-cache-dir install x==1\n",
                &[],
            ),
            ("FROM python:3\nENV PIP_NO_CACHE_DIR=1\nRUN pip install x==1\n", &[]),
            (
                "FROM python:3\nRUN --mount=type=cache,target=/root/.cache/pip pip install x==1\nRUN pip download x\n",
                &[],
            ),
            ("FROM python:3\n# check=skip=PipCacheKept\nRUN pip install x==1\n", &[]),
        ],
    );
    run(
        "SW1022",
        &[
            ("FROM python:3\nRUN pip install --no-cache-dir flask requests==2\n", &["SW1022:2"]),
            ("FROM python:3\nRUN pip3.11 install --no-cache-dir 'uvicorn[standard]'\n", &["SW1022:2"]),
            (
                "FROM python:3\nRUN pip install --no-cache-dir -U pip setuptools wheel\nRUN pip install --no-cache-dir . -e ./x\n",
                &[],
            ),
            (
                "FROM python:3\nRUN pip install --no-cache-dir -r r.txt 'a>=1,<2' git+https://x/y x.whl $P\nRUN pip install -c c.txt --no-cache-dir a\n",
                &[],
            ),
            ("# check=skip=SW1022\nFROM python:3\nRUN pip install flask\n", &[]),
        ],
    );
    run(
        "SW1031",
        &[
            ("FROM node:20\nRUN npm install && npm cache clean --force\n", &["SW1031:2"]),
            ("FROM node:20\nRUN npm i --omit=dev && npm cache clean --force\n", &["SW1031:2"]),
            ("FROM node:20\nRUN npm ci && npm cache clean --force\n", &[]),
            (
                "FROM node:20\nRUN npm install -g x@1 && npm install left-pad@1 && npm run install && npm cache clean --force\n",
                &[],
            ),
            ("FROM node:20\n# check=skip=NpmInstallNotCi\nRUN npm install\n", &[]),
        ],
    );
    run(
        "SW1032",
        &[
            ("FROM node:20\nRUN npm install -g typescript\n", &["SW1032:2"]),
            ("FROM node:20\nRUN npm i @angular/cli x@latest y@1\n", &["SW1032:2"]),
            (
                "FROM node:20\nRUN npm install -g typescript@5 @a/b@1.2 ./local me/repo https://x/y.tgz $P\n",
                &[],
            ),
            ("FROM node:20\nRUN npm ci\n", &[]),
            ("FROM node:20\n# check=skip=SW1032\nRUN npm i x\n", &[]),
        ],
    );
    run(
        "SW1033",
        &[
            ("FROM node:20\nRUN npm ci\n", &["SW1033:2"]),
            ("FROM node:20 AS b\nFROM b\nRUN npm install -g x@1\n", &["SW1033:3"]),
            ("FROM node:20 AS build\nRUN npm ci\nFROM scratch\nCOPY --from=build /x /\n", &[]),
            (
                "FROM node:20\nRUN npm ci && npm cache clean --force\nRUN --mount=type=cache,target=/root/.npm npm ci\n",
                &[],
            ),
            ("FROM node:20\n# check=skip=SW1033\nRUN npm ci\n", &[]),
        ],
    );
    run(
        "SW1041",
        &[
            ("FROM fedora\nRUN dnf install git && dnf clean all\n", &["SW1041:2"]),
            ("FROM centos\nRUN yum install git && yum clean all\n", &["SW1041:2"]),
            ("FROM fedora\nRUN dnf install -y git && dnf clean all\nRUN dnf -yq remove git\n", &[]),
            ("FROM fedora\nRUN dnf makecache && dnf clean all\n", &[]),
            ("FROM fedora\n# check=skip=SW1041\nRUN dnf install git\n", &[]),
        ],
    );
    run(
        "SW1042",
        &[
            ("FROM fedora\nRUN dnf install -y git\n", &["SW1042:2"]),
            ("FROM centos\nRUN yum -y install git\nRUN yum clean all\n", &["SW1042:2"]),
            ("FROM fedora\nRUN dnf install -y git && dnf clean all\n", &[]),
            (
                "FROM fedora\nRUN --mount=type=cache,target=/var/cache/dnf dnf install -y git\nRUN yum install -y a && rm -rf /var/cache/yum\n",
                &[],
            ),
            ("FROM fedora\n# check=skip=DnfCacheKept\nRUN dnf install -y git\n", &[]),
        ],
    );
}

#[test]
fn shell() {
    run(
        "SW2001",
        &[
            ("FROM debian\nRUN cd /app\n", &["SW2001:2"]),
            ("FROM debian\nRUN mkdir -p /app && cd /app\n", &["SW2001:2"]),
            ("FROM debian\nRUN cd /app && make\nRUN (cd /x && make)\n", &[]),
            ("FROM debian\nRUN make || cd /x\nRUN echo cd\n", &[]),
            ("FROM debian\n# check=skip=CdDoesNotLast\nRUN cd /app\n", &[]),
        ],
    );
    run(
        "SW2002",
        &[
            ("FROM debian\nRUN curl -f https://x/y | tar x\n", &["SW2002:2"]),
            ("FROM debian\nRUN true && \\\n  cat a | sort > b\n", &["SW2002:3"]),
            ("FROM debian\nRUN <<EOF\nset -e\ncat a | sort\nEOF\n", &["SW2002:4"]),
            ("FROM debian\nSHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN a | b\n", &[]),
            ("FROM debian\nRUN set -eo pipefail; a | b\nRUN set -o pipefail && a | b\n", &[]),
            (
                "FROM debian\nRUN echo x | b\nRUN if a | b; then c; fi\nRUN a | b || true\nRUN echo 'a | b'\n",
                &[],
            ),
            ("FROM debian\nRUN [\"a\", \"|\", \"b\"]\nRUN x=$(a | b)\nRUN case $x in a|b) c;; esac\n", &[]),
            ("FROM debian\n# check=skip=SW2002\nRUN a | b\n", &[]),
        ],
    );
    run(
        "SW2003",
        &[
            ("FROM debian\nRUN curl -fsSL https://x | sh\n", &["SW2003:2"]),
            ("FROM debian\nRUN wget -qO- https://x | sudo -E bash -s -- -y\n", &["SW2003:2"]),
            (
                "FROM debian\nRUN bash -c \"$(curl -fsSL https://x)\"\nRUN bash <(curl -s https://x)\n",
                &["SW2003:2", "SW2003:3"],
            ),
            ("FROM debian\nRUN curl https://x | python3 -\n", &["SW2003:2"]),
            (
                "FROM debian\nRUN curl https://x | tar xz\nRUN curl https://x | python3 -m json.tool\nRUN curl https://x | sh -c 'cat > /f'\n",
                &[],
            ),
            ("FROM debian\nRUN curl -o x https://x && sh x\nRUN echo y | bash\n", &[]),
            ("FROM debian\n# check=skip=PipedToShell\nRUN curl https://x | sh\n", &[]),
        ],
    );
    run(
        "SW2004",
        &[
            ("FROM debian\nRUN sudo apt-get update\n", &["SW2004:2"]),
            ("FROM debian\nRUN a && sudo -u x b\n", &["SW2004:2"]),
            ("FROM debian\nRUN apt-get install -y sudo\n", &[]),
            ("FROM debian\nRUN echo 'sudo x'\nRUN gosu x y\n", &[]),
            ("FROM debian\n# check=skip=SW2004\nRUN sudo x\n", &[]),
        ],
    );
    run(
        "SW2005",
        &[
            ("FROM debian\nRUN <<EOF\na\nb\nEOF\n", &["SW2005:2"]),
            ("FROM debian\nRUN <<EOF\n#!/bin/bash\na\nb\nEOF\n", &["SW2005:2"]),
            ("FROM debian\nRUN bash <<EOF\na\nb\nEOF\n", &["SW2005:2"]),
            ("FROM debian\nRUN <<EOF\nset -eux\na\nb\nEOF\nRUN <<EOF\n#!/bin/sh -e\na\nb\nEOF\n", &[]),
            ("FROM debian\nRUN <<EOF\na\nEOF\nRUN <<EOF\na &&\nb\nEOF\nRUN bash -e <<EOF\na\nb\nEOF\n", &[]),
            (
                "FROM debian\nRUN <<EOF\n#!/usr/bin/env python3\na\nb\nEOF\nRUN cat > /x <<EOF\na\nb\nEOF\n",
                &[],
            ),
            ("FROM debian\nSHELL [\"/bin/bash\", \"-ec\"]\nRUN <<EOF\na\nb\nEOF\n", &[]),
            ("FROM debian\n# check=skip=SW2005\nRUN <<EOF\na\nb\nEOF\n", &[]),
        ],
    );
    // Another language is nobody's business here.
    run("SW", &[("FROM windows\nSHELL [\"powershell\", \"-Command\"]\nRUN cd x; sudo y | z\n", &[])]);
}

#[test]
fn instructions() {
    run(
        "SW3001",
        &[
            ("FROM debian\nADD src /src\n", &["SW3001:2"]),
            ("FROM debian\nADD --chown=1 a.txt b/ /x/\n", &["SW3001:2"]),
            ("FROM debian\nADD a.tar.gz /\nADD https://x/y /\nADD git@x:y/z.git /\nADD *.tgz /\n", &[]),
            ("FROM debian\nADD --unpack=false a.txt /\nADD $x /\nCOPY a /\n", &[]),
            ("FROM debian\n# check=skip=AddInsteadOfCopy\nADD a /\n", &[]),
        ],
    );
    run(
        "SW3002",
        &[
            ("FROM debian\nCOPY .env /app/\n", &["SW3002:2"]),
            (
                "FROM debian\nCOPY --chmod=600 keys/id_rsa .npmrc /root/\nADD .aws /root/.aws\n",
                &["SW3002:2", "SW3002:2", "SW3002:3"],
            ),
            ("FROM debian\nCOPY .env.example id_rsa.pub /x/\n", &[]),
            ("FROM debian\nRUN --mount=type=secret,id=npmrc,target=/root/.npmrc npm ci\n", &[]),
            ("FROM debian\n# check=skip=SW3002\nCOPY .env /\n", &[]),
        ],
    );
    run(
        "SW3003",
        &[
            ("FROM debian\nRUN echo \"//r/:_authToken=${NPM_TOKEN}\" > ~/.npmrc\n", &["SW3003:2"]),
            ("FROM debian\nRUN git clone https://me:$GH_TOKEN@github.com/a/b\n", &["SW3003:2"]),
            ("FROM debian\nRUN curl https://me:hunter2@example.com/x -o y\n", &["SW3003:2"]),
            ("FROM debian\nENV X=ghp_abcdefghijklmnopqrstuvwxyz0123456789\n", &["SW3003:2"]),
            ("FROM debian\nRUN echo $TOKEN > .npmrc && npm ci && rm .npmrc\n", &[]),
            (
                "FROM debian\nRUN echo $VERSION > /v\nRUN curl -H \"A: $TOKEN\" https://x -o y\nRUN git clone https://github.com/a/b\nRUN git clone git@github.com:a/b\n",
                &[],
            ),
            ("FROM debian\n# check=skip=SecretInLayer\nRUN echo $TOKEN > /x\n", &[]),
        ],
    );
    run(
        "SW3004",
        &[
            ("FROM debian\nCOPY . /app\nRUN chown -R app:app /app\n", &["SW3004:3"]),
            (
                "FROM debian\nWORKDIR /app\nCOPY src/ .\nRUN chmod -R 755 /app/src && chgrp -R x /data\n",
                &["SW3004:4"],
            ),
            (
                "FROM debian\nCOPY . /app\nRUN chown app /app\nRUN chown -R app /data\nRUN chmod +x /app/x\n",
                &[],
            ),
            ("FROM debian\nCOPY x /\nRUN chown -R a /var/lib/y\n", &[]),
            (
                "FROM debian AS b\nCOPY . /app\nRUN chown -R app /app\nFROM scratch\nCOPY --from=b /app /\n",
                &[],
            ),
            ("FROM debian\nCOPY . /app\n# check=skip=ChownDoublesLayer\nRUN chown -R app /app\n", &[]),
        ],
    );
    run(
        "SW3005",
        &[
            ("FROM debian\n", &["SW3005:1"]),
            ("FROM debian:latest AS b\nFROM b\nCOPY --from=composer /x /\n", &["SW3005:1", "SW3005:3"]),
            ("FROM debian:12 AS b\nFROM b\nFROM scratch\n", &[]),
            (
                "ARG T=1\nFROM debian:$T\nFROM localhost:5000/x@sha256:0000000000000000000000000000000000000000000000000000000000000000\n",
                &[],
            ),
            ("# check=skip=SW3005\nFROM debian\n", &[]),
        ],
    );
    run(
        "SW3006",
        &[
            ("# check=experimental=SW3006\nFROM debian:12\n", &["SW3006:2"]),
            ("# check=experimental=NoUser\nFROM debian:12 AS a\nUSER x\nFROM debian:12\n", &["SW3006:4"]),
            ("FROM debian:12\n", &[]),
            ("# check=experimental=all\nFROM debian:12 AS a\nUSER x\nFROM a\n", &[]),
        ],
    );
}

#[test]
fn what_the_parser_warns_of() {
    run(
        "SW3007",
        &[
            ("FROM a:1\nRUN ['a', 'b']\n", &["SW3007:2"]),
            ("FROM a:1\nCMD [\"a\", 'b']\n", &["SW3007:2"]),
            ("FROM a:1\nRUN [ -d /x ]\nCMD [\"a\"]\n", &[]),
            ("FROM a:1\n# check=skip=LooksLikeJson\nRUN ['a', 'b']\n", &[]),
        ],
    );
    run(
        "SW3008",
        &[
            ("FROM a:1\nCOPY --chown= a /\n", &["SW3008:2"]),
            ("FROM --platform= a:1\n", &["SW3008:1"]),
            ("FROM a:1\nCOPY --chown=0 a /\n", &[]),
            ("# check=skip=SW3008\nFROM a:1\nCOPY --chown= a /\n", &[]),
        ],
    );
    run(
        "SW3009",
        &[
            ("# my image\n# escape=`\nFROM a:1\n", &["SW3009:2"]),
            ("FROM a:1\n# syntax=x\n", &["SW3009:2"]),
            ("# syntax=x\n# escape=`\nFROM a:1\n", &[]),
            ("# x\n# syntax=y\n# check=skip=LateDirective\nFROM a:1\n", &[]),
        ],
    );
    run(
        "SW3010",
        &[
            ("FROM a:1\nCMD\n", &["SW3010:2"]),
            ("FROM a:1\nENTRYPOINT\n", &["SW3010:2"]),
            ("FROM a:1\nRUN\n", &["SW3010:2"]),
            ("FROM a:1\nONBUILD RUN\n", &["SW3010:2"]),
            ("FROM a:1\nCMD []\n", &[]),
            ("FROM a:1\n# check=skip=EmptyCommand\nCMD\n", &[]),
        ],
    );
    run(
        "SW3011",
        &[
            ("FROM a:1\nONBUILD RUM make\n", &["SW3011:2"]),
            ("FROM a:1\nONBUILD COPY a\n", &["SW3011:2"]),
            ("FROM a:1\nONBUILD RUN make\n", &[]),
            ("FROM a:1\n# check=skip=RefusedTrigger\nONBUILD RUM make\n", &[]),
        ],
    );
}

#[test]
fn long_chains_of_stages_stay_cheap() {
    let mut source = "FROM scratch AS s0\n".to_owned();
    for number in 1..3_000 {
        source.push_str(&format!("FROM s{} AS s{number}\nENV v{number}=1\n", number - 1));
    }
    assert!(lint(&source).errors.is_empty());
    let mut source = "FROM scratch\nENV a=0123456789\n".to_owned();
    for number in 0..2_000 {
        source.push_str(&format!("ENV a=$a$a b{number}=$a\n"));
    }
    assert!(lint(&source).errors.is_empty());
}

#[test]
fn fixes() {
    for (source, expected) in [
        ("from scratch AS App\n", "from scratch as app\n"),
        ("FROM scratch\ncopy a /\nCOPY b /\n", "FROM scratch\nCOPY a /\nCOPY b /\n"),
        ("FROM scratch\nCOPY a \\\n\n\n  /b\n", "FROM scratch\nCOPY a \\\n  /b\n"),
        (
            "FROM scratch\nMAINTAINER Jo <jo@x.y>\n",
            "FROM scratch\nLABEL org.opencontainers.image.authors=\"Jo <jo@x.y>\"\n",
        ),
        ("FROM scratch\nENV a b c\nLABEL x y\n", "FROM scratch\nENV a=\"b c\"\nLABEL x=y\n"),
        ("FROM --platform=$TARGETPLATFORM scratch\n", "FROM scratch\n"),
        ("FROM scratch\nEXPOSE 80:8080/TCP 53/UDP\n", "FROM scratch\nEXPOSE 8080/tcp 53/udp\n"),
        (
            "FROM scratch\nCMD node app.js --port=1\n",
            "FROM scratch\nCMD [\"node\", \"app.js\", \"--port=1\"]\n",
        ),
        ("FROM scratch\nWORKDIR app\n", "FROM scratch\nWORKDIR /app\n"),
        ("FROM debian:12\nRUN cd /app\n", "FROM debian:12\nWORKDIR /app\n"),
        ("FROM debian:12\nADD a /\n", "FROM debian:12\nCOPY a /\n"),
        ("FROM debian:12\nRUN sudo make\n", "FROM debian:12\nRUN make\n"),
        (
            "FROM debian:12\nRUN apt update && apt install curl=1\n",
            "FROM debian:12\nRUN apt-get update && apt-get install --no-install-recommends -y curl=1 && rm -rf /var/lib/apt/lists/*\n",
        ),
        (
            "FROM debian:12\nRUN apt-get update \\\n  && apt-get install -y \\\n    # the tool\n    curl=1\n",
            "FROM debian:12\nRUN apt-get update \\\n  && apt-get install --no-install-recommends -y \\\n    # the tool\n    curl=1 \\\n    && rm -rf /var/lib/apt/lists/*\n",
        ),
        ("FROM alpine:3\nRUN apk add git=1\n", "FROM alpine:3\nRUN apk add --no-cache git=1\n"),
        ("FROM python:3\nRUN pip install x==1\n", "FROM python:3\nRUN pip install --no-cache-dir x==1\n"),
        (
            "FROM fedora:40\nRUN dnf install git\n",
            "FROM fedora:40\nRUN dnf install -y git && dnf clean all\n",
        ),
        (
            "FROM node:20\nCOPY package.json package-lock.json ./\nRUN npm install\n",
            "FROM node:20\nCOPY package.json package-lock.json ./\nRUN npm ci && npm cache clean --force\n",
        ),
        ("FROM debian:12\nRUN <<EOF\na\nb\nEOF\n", "FROM debian:12\nRUN <<EOF\nset -e\na\nb\nEOF\n"),
        (
            "FROM debian:12\nRUN <<-EOF\n\t#!/bin/sh\n\ta\n\tb\n\tEOF\n",
            "FROM debian:12\nRUN <<-EOF\n\t#!/bin/sh\n\tset -e\n\ta\n\tb\n\tEOF\n",
        ),
        // Not mechanical, so left alone.
        ("FROM scratch\nENV a \"b c\"\nCMD echo $X\n", "FROM scratch\nENV a \"b c\"\nCMD echo $X\n"),
        (
            "FROM some/x:1\nRUN sudo make\nRUN npm install\n",
            "FROM some/x:1\nRUN sudo make\nRUN npm install && npm cache clean --force\n",
        ),
    ] {
        let (fixed, applied) = fix(source, &options());
        assert_eq!(fixed, expected, "{source}");
        assert_eq!(applied.is_empty(), source == expected);
        let (again, none) = fix(&fixed, &options());
        assert_eq!((again, none.len()), (fixed.clone(), 0), "{source}");
        assert!(lint(&fixed).errors.len() <= lint(source).errors.len());
    }
}
