//! A session of psql as the superuser.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::database::postgres::Postgres;

/// What separates columns and rows, and what ends the output of a request.
const COLUMN: char = '\x1f';
const ROW: char = '\x1e';
const END: u8 = 0x1d;

pub(crate) struct Sql {
    psql: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Sql {
    /// Connects to the database `mail`.
    pub(crate) fn connect(postgres: &Postgres) -> Self {
        let mut command = postgres.psql_command("postgres", "mail");
        let mut psql = command
            .args(["--field-separator", &COLUMN.to_string()])
            .args(["--record-separator", &ROW.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = psql.stdin.take().unwrap();
        let output = BufReader::new(psql.stdout.take().unwrap());
        Self { psql, input, output }
    }

    /// Runs statements, of which at most one returns rows. After an error the session is over.
    pub(crate) fn try_run(&mut self, statements: &str) -> Result<Vec<Vec<String>>, String> {
        let mut output = Vec::new();
        // psql ends when a statement fails and when the connection does.
        let written = writeln!(self.input, "{statements};\n\\echo '{}'", char::from(END));
        if written.is_err() || self.output.read_until(END, &mut output).is_err() || output.pop() != Some(END)
        {
            let mut error = String::new();
            let _ = self
                .psql
                .stderr
                .take()
                .map(|mut stderr| stderr.read_to_string(&mut error));
            return Err(error);
        }
        let mut line = Vec::new();
        let _ = self.output.read_until(b'\n', &mut line);
        let text = String::from_utf8(output).unwrap();
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let rows = text.split(ROW).filter(|row| !row.is_empty());
        Ok(rows
            .map(|row| row.split(COLUMN).map(str::to_owned).collect())
            .collect())
    }

    #[track_caller]
    pub(crate) fn run(&mut self, statements: &str) -> Vec<Vec<String>> {
        match self.try_run(statements) {
            Ok(rows) => rows,
            Err(error) => panic!("{statements}: {error}"),
        }
    }

    /// The only value of a query.
    #[track_caller]
    pub(crate) fn value(&mut self, query: &str) -> String {
        self.run(query)[0][0].clone()
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}
