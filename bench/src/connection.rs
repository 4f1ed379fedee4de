//! A connection that speaks Phalanx's client protocol with one request outstanding: what the client library does, without
//! its threads, so that many of them fit one thread.

use std::io;

use bytes::{Bytes, BytesMut};
use phalanx::wire::PROTOCOL_VERSION;
use phalanx::wire::client::{
    ClientFrame, Code, Get, Hello, Op, Put, Request, Role, ServerFrame, Txn, Write, client_frame,
    op, request, response, server_frame,
};
use phalanx::wire::frame::{self, Decoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection, one request at a time.
pub struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    out: BytesMut,
    last_id: u64,
    since: u64,
}

impl Connection {
    /// Connects and greets.
    pub async fn open(address: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut connection = Connection {
            stream,
            decoder: Decoder::default(),
            out: BytesMut::new(),
            last_id: 0,
            since: 0,
        };
        let hello =
            Hello { version: PROTOCOL_VERSION, role: Role::Client.into(), ..Hello::default() };
        connection.send(client_frame::Frame::Hello(hello)).await?;
        match connection.receive().await? {
            server_frame::Frame::Welcome(welcome) => connection.since = welcome.applied,
            other => return Err(io::Error::other(format!("no welcome but {other:?}"))),
        }
        Ok(connection)
    }

    /// Puts a key. `false` if the server was overloaded.
    pub async fn put(&mut self, key: &[u8], value: &Bytes) -> io::Result<bool> {
        let mut request_id = [0; 16];
        getrandom::fill(&mut request_id).map_err(io::Error::other)?;
        let put = Put { key: Bytes::copy_from_slice(key), value: value.clone() };
        let txn = Txn { success: vec![Op { op: Some(op::Op::Put(put)) }], ..Txn::default() };
        let request_id = Bytes::copy_from_slice(&request_id);
        let write = Write { request_id, since: self.since, txn: Some(txn) };
        self.call(request::Command::Write(write)).await
    }

    /// Reads a key, linearizably unless `stale`. `false` if the server was overloaded.
    pub async fn get(&mut self, key: &[u8], stale: bool) -> io::Result<bool> {
        let get = Get { key: Bytes::copy_from_slice(key), stale };
        self.call(request::Command::Get(get)).await
    }

    async fn call(&mut self, command: request::Command) -> io::Result<bool> {
        self.last_id += 1;
        let request = Request { id: self.last_id, timeout_ms: 10_000, command: Some(command) };
        self.send(client_frame::Frame::Request(request)).await?;
        match self.receive().await? {
            server_frame::Frame::Response(response) => {
                assert_eq!(response.id, self.last_id, "one request is outstanding");
                self.since = self.since.max(response.applied);
                match response.result {
                    Some(response::Result::Error(error)) if error.code() == Code::Overloaded => {
                        Ok(false)
                    }
                    Some(response::Result::Error(error)) => Err(io::Error::other(error.message)),
                    _ => Ok(true),
                }
            }
            other => Err(io::Error::other(format!("no response but {other:?}"))),
        }
    }

    async fn send(&mut self, frame: client_frame::Frame) -> io::Result<()> {
        frame::encode(&ClientFrame { frame: Some(frame) }, &mut self.out);
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        Ok(())
    }

    async fn receive(&mut self) -> io::Result<server_frame::Frame> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(ServerFrame { frame: Some(frame) }) =
                self.decoder.next_frame().map_err(io::Error::other)?
            {
                return Ok(frame);
            }
            match self.stream.read(&mut bytes).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => self.decoder.feed(&bytes[..len]),
            }
        }
    }
}
