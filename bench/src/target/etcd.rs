//! etcd's client protocol: gRPC by tonic, one channel and so one connection for each client, as the crate etcd-client
//! makes it. That crate needs protoc to be built. The few messages that are needed here are written out instead, and
//! the rest (tonic, HTTP/2, the codec) is the same.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::Answer;
use crate::load::workload::{KEY_LEN, Operation};

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bool, tag = "7")]
    serializable: bool,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// What a member tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It knows no leader.
    Waits,
    Leads,
    Follows,
}

/// A handle of a channel. Clones share the connection.
#[derive(Clone)]
pub struct Slot {
    grpc: Grpc<Channel>,
}

fn failed(error: impl std::error::Error) -> io::Error {
    // tonic's own errors say little; their causes say what happened.
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    io::Error::other(text)
}

impl Slot {
    pub async fn open(address: &str, timeout_ms: u32) -> io::Result<Slot> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(failed)?;
        let endpoint = endpoint.tcp_nodelay(true).timeout(Duration::from_millis(timeout_ms.into()));
        Ok(Slot { grpc: Grpc::new(endpoint.connect().await.map_err(failed)?) })
    }

    pub async fn call(
        &mut self,
        operation: Operation,
        key: &[u8; KEY_LEN],
        value: &Bytes,
    ) -> io::Result<Answer> {
        let key = Bytes::copy_from_slice(key);
        let result = match operation {
            Operation::Put => {
                let put = PutRequest { key, value: value.clone() };
                self.unary::<_, PutResponse>("/etcdserverpb.KV/Put", put).await.map(drop)
            }
            Operation::Get | Operation::StaleGet => {
                let get = RangeRequest { key, serializable: operation == Operation::StaleGet };
                self.unary::<_, RangeResponse>("/etcdserverpb.KV/Range", get).await.map(drop)
            }
        };
        match result {
            Ok(()) => Ok(Answer::Done),
            // Of etcd: "too many requests".
            Err(status) if status.code() == tonic::Code::ResourceExhausted => Ok(Answer::Refused),
            Err(status) => Err(failed(status)),
        }
    }

    /// What the member is in its cluster, and its version.
    pub async fn status(&mut self) -> io::Result<(Role, String)> {
        let status: StatusResponse = self
            .unary("/etcdserverpb.Maintenance/Status", StatusRequest {})
            .await
            .map_err(failed)?;
        let own = status.header.map_or(0, |header| header.member_id);
        let role = match status.leader {
            0 => Role::Waits,
            leader if leader == own => Role::Leads,
            _ => Role::Follows,
        };
        Ok((role, status.version))
    }

    async fn unary<Q, A>(&mut self, path: &'static str, message: Q) -> Result<A, tonic::Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let unavailable =
            |error: tonic::transport::Error| tonic::Status::unavailable(failed(error).to_string());
        self.grpc.ready().await.map_err(unavailable)?;
        let codec = ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        Ok(self.grpc.unary(tonic::Request::new(message), path, codec).await?.into_inner())
    }
}
