//! Name resolution without the C library.
//!
//! tokio's resolver calls `getaddrinfo`, which in a statically linked glibc opens shared objects at run time (NSS) and
//! fails or crashes. hickory asks the servers of `/etc/resolv.conf` itself and reads `/etc/hosts`. Unlike reqwest's own
//! hickory feature this never asks a public resolver behind the user's back when `/etc/resolv.conf` is missing.

use super::bounds;
use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, OnceLock},
};

/// A name without an address.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// The name servers and /etc/hosts know no such name; asking again does not help.
    #[error("no such host")]
    Unknown,
    /// Nobody to ask.
    #[error("there is no name server in /etc/resolv.conf, and /etc/hosts does not have it")]
    NoServers,
    /// A name server did not answer, or not with an answer. The resolver has asked each of them again already.
    #[error("the name servers do not answer: {0}")]
    Unanswered(NetError),
    /// An inner address under a name that was not named.
    #[error("it is an address of an inner network")]
    Inner,
}

impl LookupError {
    fn of(error: NetError) -> LookupError {
        match error {
            error if error.is_nx_domain() || error.is_no_records_found() => LookupError::Unknown,
            NetError::NoConnections => LookupError::NoServers,
            error => LookupError::Unanswered(error),
        }
    }
}

/// Resolves names for reqwest. Address literals never come here.
#[derive(Clone, Default)]
pub(crate) struct Resolver {
    system: Arc<OnceLock<TokioResolver>>,
    /// Whether inner addresses are none.
    guarded: bool,
}

impl Resolver {
    /// The same, for names that nobody wrote down: no inner address is answered.
    pub(super) fn guarded(&self) -> Resolver {
        Resolver { system: Arc::clone(&self.system), guarded: true }
    }

    fn system(&self) -> Result<&TokioResolver, NetError> {
        if let Some(resolver) = self.system.get() {
            return Ok(resolver);
        }
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
            // no /etc/resolv.conf: what /etc/hosts knows still works
            let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            TokioResolver::builder_with_config(nobody, TokioRuntimeProvider::default())
        });
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let resolver = builder.build()?;
        Ok(self.system.get_or_init(|| resolver))
    }
}

impl Resolver {
    /// The addresses of a host.
    pub(crate) async fn addresses(
        &self,
        host: &str,
    ) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let found = self.resolve(host.parse()?).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses: Vec<IpAddr> = if is_localhost(name.as_str()) {
                // RFC 6761, section 6.3: never asked of a server
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            } else {
                let system = resolver.system().map_err(LookupError::of)?;
                system.lookup_ip(name.as_str()).await.map_err(LookupError::of)?.iter().collect()
            };
            let mut addresses = addresses;
            if resolver.guarded {
                addresses.retain(|address| !bounds::is_inner(*address));
                if addresses.is_empty() {
                    return Err(LookupError::Inner.into());
                }
            }
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

/// Whether a host name means this machine by definition.
pub(super) fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}
