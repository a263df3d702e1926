//! Who fetches blobs from the object store themselves, sent there by an address that the replica signed for a while.
//!
//! Only what the settings name: clients of these networks, which reach the store, and blobs that are worth a second request. Manifests
//! are never answered so, nor is `HEAD`. Whether the client may have the blob was decided before; the address opens
//! that one object to whoever has it, until it ends.

use super::forwarded::Trusted;
use crate::limits;
use std::net::IpAddr;

/// What the settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    clients: Clients,
    /// The smallest blob, in bytes.
    from_bytes: u64,
}

/// Whose clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Clients {
    #[default]
    Nobody,
    All,
    Of(Vec<Trusted>),
}

impl Redirect {
    /// `all`, or networks with commas between them; and the smallest blob.
    pub fn read(clients: Option<&str>, from_bytes: Option<u64>) -> Result<Redirect, String> {
        let clients = match clients {
            None if from_bytes.is_some() => return Err("`redirect-from` needs `redirect`".to_owned()),
            None => Clients::Nobody,
            Some("all") => Clients::All,
            Some(text) => {
                let network = |text: &str| match text.parse() {
                    Ok(Trusted::File) | Err(_) => {
                        Err(format!("`{text}` is neither `all` nor a network like `10.0.0.0/8`"))
                    }
                    Ok(network) => Ok(network),
                };
                Clients::Of(text.split(',').map(network).collect::<Result<_, _>>()?)
            }
        };
        Ok(Redirect { clients, from_bytes: from_bytes.unwrap_or(limits::REDIRECT_FROM) })
    }

    /// Whether a client at this address is sent to the store for a blob of this size.
    pub(super) fn means(&self, client: Option<IpAddr>, size_bytes: u64) -> bool {
        size_bytes >= self.from_bytes
            && match &self.clients {
                Clients::Nobody => false,
                Clients::All => true,
                Clients::Of(networks) => {
                    client.is_some() && networks.iter().any(|network| network.means(client))
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_sent_by_network_and_size() {
        let near = Redirect::read(Some("10.0.0.0/8,192.0.2.7,2001:db8::/32"), Some(1000)).expect("a setting");
        for (client, size, sent) in [
            ("10.1.2.3", 1000, true),
            ("10.1.2.3", 999, false),
            ("::ffff:10.1.2.3", 1000, true),
            ("192.0.2.7", 5000, true),
            ("192.0.2.8", 5000, false),
            ("2001:db8::1", 5000, true),
            ("2001:db9::1", 5000, false),
        ] {
            assert_eq!(near.means(Some(client.parse().expect("an address")), size), sent, "{client} {size}");
        }
        assert!(!near.means(None, 5000), "a socket in the file system");
        let all = Redirect::read(Some("all"), None).expect("a setting");
        assert!(all.means(None, limits::REDIRECT_FROM) && !all.means(None, limits::REDIRECT_FROM - 1));
        assert!(!Redirect::default().means(Some(IpAddr::from([10, 0, 0, 1])), u64::MAX));
        for wrong in ["", "unix", "10.0.0.0/8,", "10.0.0.1/8", "everybody", "10.0.0.0/33"] {
            assert!(Redirect::read(Some(wrong), None).is_err(), "{wrong}");
        }
        assert!(Redirect::read(None, Some(1)).is_err());
    }
}
