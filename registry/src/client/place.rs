//! Asking the places where a name may be had, one after the other.

use super::{
    Inner,
    error::ClientError,
    progress::{Event, Progress},
    retry::Policy,
    routes::Place,
    transport::Endpoint,
};
use crate::protocol;
use reqwest::header::{HeaderMap, HeaderValue};
use slipway_oci::Reference;

/// A place that is asked.
pub(super) struct At<'a> {
    pub(super) endpoint: Endpoint,
    /// The name there.
    pub(super) reference: &'a Reference,
    pub(super) policy: &'a Policy,
    /// The `traceparent` of requests, where they belong to a trace.
    pub(super) trace: Option<&'a HeaderValue>,
}

impl At<'_> {
    /// With what every request there carries.
    pub(super) fn headers(&self, mut headers: HeaderMap) -> HeaderMap {
        if let Some(trace) = self.trace {
            headers.insert(protocol::TRACE_PARENT_HEADER, trace.clone());
        }
        headers
    }
}

impl Inner {
    /// The registry of a name itself, to push to and to delete in.
    pub(super) async fn own_endpoint(&self, reference: &Reference) -> Result<Endpoint, ClientError> {
        self.allowed(reference)?;
        let place = self.routes.own(reference);
        self.transport.endpoint(place.reference.registry(), place.insecure).await
    }

    fn allowed(&self, reference: &Reference) -> Result<(), ClientError> {
        match self.routes.blocked(reference) {
            Some(prefix) => {
                Err(ClientError::Blocked { name: reference.to_string(), prefix: prefix.to_owned() })
            }
            None => Ok(()),
        }
    }

    /// Lets `work` ask every place of a name until one has it: mirrors first, and before them the place that had
    /// something of the same repository. Mirrors are asked once; what is wrong with one is told and passed over.
    pub(super) async fn ask_places<T>(
        &self,
        reference: &Reference,
        progress: &dyn Progress,
        work: impl AsyncFn(&At<'_>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.allowed(reference)?;
        let (key, mut places) = (reference.name(), self.routes.places(reference));
        let settled = self.settled.lock().expect("no panic while places are held").get(&key).cloned();
        if let Some(settled) = settled.and_then(|place| place.with(reference)) {
            // a mirror that is not asked by digest has the blobs of what it had by tag
            places.retain(|place| place.reference != settled.reference);
            places.insert(0, settled);
        }
        let mut failure = None;
        for place in &places {
            match self.ask_at(place, &work).await {
                Ok(found) => {
                    let mut all = self.settled.lock().expect("no panic while places are held");
                    all.insert(key, place.clone());
                    return Ok(found);
                }
                // this machine's own trouble is the same wherever the bytes come from
                Err(error @ ClientError::Blob(_)) => return Err(error),
                Err(error) if place.is_mirror => {
                    let name = place.reference.name();
                    progress.event(&Event::PassedOver { place: &name, reason: &error.to_string() });
                    failure = failure.or(Some(error));
                }
                // what the registry itself says counts more than what its mirrors say
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.expect("a name has one place at least"))
    }

    async fn ask_at<T>(
        &self,
        place: &Place,
        work: &impl AsyncFn(&At<'_>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let endpoint = self.transport.endpoint(place.reference.registry(), place.insecure).await?;
        let policy = if place.is_mirror { &self.impatient } else { &self.policy };
        work(&At { endpoint, reference: &place.reference, policy, trace: None }).await
    }
}
