//! A scripted server for tests: speaks frames on a port of 127.0.0.1, and says what the test tells
//! it to.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;

use crate::wire::client::{
    ClientFrame, Code, Error as Refusal, GetResult, Hello, Identity, KeyValue, OpResult, PutResult,
    Request, Response, ServerFrame, TxnResult, Welcome, Write as WireWrite, client_frame,
    op_result, request::Command, response::Result as Answer, server_frame::Frame,
};
use crate::wire::frame::{self, Decoder};

/// A test that waits for longer than that has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A port that is taken as long as this is kept, and listened on.
pub(crate) struct FakeServer {
    listener: TcpListener,
}

/// A connection that a client opened.
pub(crate) struct FakeConnection {
    stream: TcpStream,
    decoder: Decoder,
}

impl FakeServer {
    pub fn start() -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).unwrap();
        FakeServer { listener }
    }

    /// Its port is taken, and nobody listens there: who connects is refused.
    pub fn nobody() -> FakeServer {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        FakeServer { listener: socket.into() }
    }

    pub fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Waits for a client, and welcomes it.
    pub fn accept(&self, applied: u64) -> FakeConnection {
        let (mut connection, _) = self.accept_hello();
        connection.welcome(applied);
        connection
    }

    /// Waits for a client and its hello, and says nothing.
    pub fn accept_hello(&self) -> (FakeConnection, Hello) {
        let mut connection = self.connection().expect("a client connects");
        match connection.next() {
            Some(client_frame::Frame::Hello(hello)) => (connection, hello),
            other => panic!("the first frame is no hello but {other:?}"),
        }
    }

    fn connection(&self) -> io::Result<FakeConnection> {
        let (stream, _) = self.listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(FakeConnection { stream, decoder: Decoder::default() })
    }

    /// Answers every request by `handler`, one client after the other, on a thread of its own, as long
    /// as clients come: one that was kept waiting comes anew.
    pub fn serve(self, mut handler: impl FnMut(Command) -> Answer + Send + 'static) -> String {
        let address = self.address();
        thread::spawn(move || {
            while let Ok(mut connection) = self.connection() {
                while let Some(frame) = connection.next() {
                    match frame {
                        client_frame::Frame::Hello(_) => connection.welcome(1),
                        client_frame::Frame::Request(request) => {
                            connection.answer(request.id, handler(request.command.unwrap()));
                        }
                    }
                }
            }
        });
        address
    }
}

impl FakeConnection {
    /// The next frame, `None` at the end of the connection.
    pub fn next(&mut self) -> Option<client_frame::Frame> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) =
                self.decoder.next_frame::<ClientFrame>().expect("the client sends frames")
            {
                return Some(frame.frame.expect("the frame is of a known kind"));
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(len) => self.decoder.feed(&buffer[..len]),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => panic!("the client says nothing: {e}"),
            }
        }
    }

    /// The next request.
    pub fn request(&mut self) -> Request {
        match self.next() {
            Some(client_frame::Frame::Request(request)) => request,
            other => panic!("no request but {other:?}"),
        }
    }

    /// The next request, which is a write.
    pub fn write(&mut self) -> (u64, WireWrite) {
        let request = self.request();
        match request.command {
            Some(Command::Write(write)) => (request.id, write),
            other => panic!("no write but {other:?}"),
        }
    }

    fn welcome(&mut self, applied: u64) {
        self.send(Frame::Welcome(Welcome {
            version: 1,
            node: Some(Identity { cluster_id: vec![7; 16].into(), ..Identity::default() }),
            applied,
        }));
    }

    pub fn send(&mut self, frame: Frame) {
        let mut out = BytesMut::new();
        frame::encode(&ServerFrame { frame: Some(frame) }, &mut out);
        // The client may be gone already.
        let _ = self.stream.write_all(&out);
    }

    /// Answers with revision 100 + id and applied 200 + id.
    pub fn answer(&mut self, id: u64, result: Answer) {
        let response =
            Response { id, revision: 100 + id, applied: 200 + id, ..Response::default() };
        self.send(Frame::Response(Response { result: Some(result), ..response }));
    }

    pub fn refuse(&mut self, id: u64, code: Code) {
        self.answer(id, Answer::Error(refusal(code)));
    }
}

pub(crate) fn refusal(code: Code) -> Refusal {
    crate::error::refusal(code, format!("scripted {}", code.as_str_name()))
}

pub(crate) fn put_done() -> Answer {
    txn_result(true, vec![op_result::Result::Put(PutResult { replaced: false })])
}

pub(crate) fn txn_result(succeeded: bool, results: Vec<op_result::Result>) -> Answer {
    let results = results.into_iter().map(|result| OpResult { result: Some(result) }).collect();
    Answer::Txn(TxnResult { succeeded, results })
}

pub(crate) fn found(key: &[u8], value: &[u8]) -> GetResult {
    GetResult { kv: Some(kv(key, value)) }
}

pub(crate) fn kv(key: &[u8], value: &[u8]) -> KeyValue {
    KeyValue {
        key: key.to_vec().into(),
        value: value.to_vec().into(),
        create_revision: 3,
        mod_revision: 5,
        version: 2,
    }
}
