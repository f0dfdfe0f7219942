//! Minimal HTTP for the CLIs: one request a connection, answered whole or as a stream of events.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

/// A request that was read completely.
pub(super) struct HttpRequest {
    /// `GET`, `POST`, `HEAD`.
    pub(super) method: String,
    /// The path without the query.
    pub(super) path: String,
    /// The body as JSON, or null.
    pub(super) body: Value,
}

/// An error response.
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Value,
}

/// A connection with a request that waits for its response.
pub(super) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(BufReader::new(stream))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn read(&mut self) -> io::Result<HttpRequest> {
        let first = self.line()?;
        let mut words = first.split(' ').map(str::to_owned);
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(':').map(|(name, value)| (name, value.trim())) {
                Some(("content-length", value)) => length = value.parse().unwrap_or(0),
                Some(("transfer-encoding", value)) => chunked = value.contains("chunked"),
                // Clients with a large body may wait for this line first.
                Some(("expect", _)) => {
                    self.0.get_ref().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                Some(_) => {}
                None => break,
            }
        }
        let body = if chunked { self.chunks()? } else { self.bytes(length)? };
        let path = target.split('?').next().unwrap_or_default().to_owned();
        Ok(HttpRequest { method, path, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(self.line()?.trim(), 16).unwrap_or(0);
            body.extend(self.bytes(size)?);
            self.line()?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// Answers with JSON.
    pub(super) fn json(&mut self, status: u16, body: &Value) -> io::Result<()> {
        self.refuse(&Refusal { status, headers: Vec::new(), body: body.clone() })
    }

    /// Answers with an error.
    pub(super) fn refuse(&mut self, refusal: &Refusal) -> io::Result<()> {
        let Refusal { status, headers, body } = refusal;
        let body = body.to_string();
        let mut head = format!(
            "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.0.get_ref().write_all(format!("{head}\r\n{body}").as_bytes())
    }

    /// Begins a stream of events.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.0.get_ref().write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
              transfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        )
    }

    /// Sends one event. Its name is its `type`, as in both protocols.
    pub(super) fn event(&mut self, data: &Value) -> io::Result<()> {
        let name = data["type"].as_str().unwrap_or_default();
        let text = format!("event: {name}\ndata: {data}\n\n");
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.0.get_ref().write_all(chunk.as_bytes())
    }

    /// Ends the stream properly.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.0.get_ref().write_all(b"0\r\n\r\n")
    }

    /// Sends nothing more until the client closes the connection.
    pub(super) fn hang(&mut self) {
        let mut rest = [0; 512];
        while self.0.read(&mut rest).is_ok_and(|n| n > 0) {}
    }
}
