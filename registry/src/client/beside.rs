//! A client for what is no registry: issuers of tokens, receivers of notices and of traces. The configuration names each of
//! their addresses, so no redirect is followed.

use super::{Authorities, ClientError, Proxies, Resolver, install_provider, tls_of};
use std::{sync::Arc, time::Duration};

/// Makes one whose requests may take `time`. `plain`: nothing is asked over TLS, so that the system's authorities, which may be
/// missing, are not read.
pub(crate) fn beside(
    authorities: Option<&Authorities>,
    proxies: &Proxies,
    plain: bool,
    time: Duration,
) -> Result<reqwest::Client, ClientError> {
    install_provider();
    let builder = reqwest::Client::builder();
    let builder = match plain {
        true => builder.tls_certs_only([]),
        false => builder.tls_backend_preconfigured(tls_of(authorities)?),
    };
    let proxies = proxies.clone();
    builder
        .proxy(reqwest::Proxy::custom(move |url| proxies.of(url)))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
        .timeout(time)
        .dns_resolver(Arc::new(Resolver::default()))
        .build()
        .map_err(ClientError::Tls)
}
