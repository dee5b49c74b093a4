//! A PostgreSQL of the tests' own: a cluster in a temporary folder, a database for each
//! test. The server refuses to run as root, so it then runs as the user that its package
//! has made.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::eventually;
use super::tls::{Authority, Identity};

/// A server. It ends with the process of the tests, however that ends.
#[derive(Debug)]
pub(crate) struct Cluster {
    folder: PathBuf,
    port: u16,
    /// The shell that watches over it.
    shell: Child,
    /// What it waits on: when it closes, the server and its folder go.
    held: ChildStdin,
}

/// Who asks in the tests, and with what.
const USER: &str = "plugpost";
const PASSWORD: &str = "a+secret/of the%tests";
const PASSWORD_IN_URL: &str = "a%2Bsecret%2Fof%20the%25tests";

/// The one that most tests share.
pub(crate) fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(Cluster::start)
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder").keep();
        let password = folder.join("password");
        fs::write(&password, PASSWORD).expect("a file");
        let authority = Authority::new("the tests");
        let Identity { certificate, key } = authority.server(&["127.0.0.1"]);
        fs::write(folder.join("root.pem"), &authority.pem).expect("a file");
        fs::write(folder.join("server.pem"), certificate).expect("a file");
        write_secret(&folder.join("server.key"), &key);
        hand_over(&folder);
        let data = folder.join("data");
        let init = as_server("initdb")
            .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
            .args(["--username", USER, "--pwfile"])
            .arg(&password)
            .arg("--pgdata")
            .arg(&data)
            .output()
            .expect("initdb starts");
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let (shell, held) = serve(&folder, port);
        let cluster = Self { folder, port, shell, held };
        cluster.answers();
        cluster
    }

    /// A new database, by its URL.
    pub(crate) fn database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::SeqCst));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{}/{database}", self.port)
    }

    /// The certificate that vouches for it.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root.pem")
    }

    /// Ask a database, or tell it something; rows are lines, their columns apart by `|`.
    #[track_caller]
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database, sql).output().expect("psql starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {error}");
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }

    fn psql(&self, database: &str, sql: &str) -> Command {
        let mut psql = self.session(database);
        psql.args(["--command", sql]).stdin(Stdio::null());
        psql
    }

    /// A session that does what it reads.
    pub(crate) fn session(&self, database: &str) -> Command {
        let mut psql = Command::new(binaries().join("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--host=127.0.0.1"])
            .args(["--username", USER, "--dbname", database])
            .args(["--port", &self.port.to_string()])
            .env("PGPASSWORD", PASSWORD)
            .env("PGOPTIONS", "-c search_path=plugpost,public -c statement_timeout=60s");
        psql
    }

    fn answers(&self) {
        eventually("PostgreSQL to answer", || {
            let answer = self.psql("postgres", "SELECT 1").output().expect("psql starts");
            answer.status.success().then_some(())
        });
    }

    /// Kill the server as a crash would, and everything that it was about to do.
    pub(crate) fn kill(&mut self) {
        self.tell("kill");
    }

    /// Start it again where it was killed.
    pub(crate) fn start_again(&mut self) {
        (self.shell, self.held) = serve(&self.folder, self.port);
        self.answers();
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.held, "{word}").expect("the shell reads");
        self.shell.wait().expect("the shell ends");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = writeln!(self.held, "end");
        let _ = self.shell.wait();
    }
}

/// The server, and a shell that ends it: at `kill` at once, at anything else with its
/// folder. The shell is out of reach of what the tests' terminal sends.
fn serve(folder: &Path, port: u16) -> (Child, ChildStdin) {
    let script = "trap '' INT TERM HUP
        \"$@\" >\"$FOLDER/log\" 2>&1 </dev/null &
        read -r word
        if [ \"$word\" = kill ]; then kill -KILL $!; else kill -INT $!; fi
        wait $!
        while [ -n \"$(ls \"$FOLDER\"/data/postmaster.pid 2>/dev/null)\" ] && [ \"$word\" != kill ]
        do sleep 0.05; done
        [ \"$word\" = kill ] || rm -rf \"$FOLDER\"";
    let mut server = as_server("postgres");
    server
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")])
        .args(["-c", &format!("unix_socket_directories={}", folder.display())])
        .args(["-c", "max_connections=300", "-c", "logging_collector=off", "-c", "ssl=on"])
        .args(["-c", &format!("ssl_cert_file={}", folder.join("server.pem").display())])
        .args(["-c", &format!("ssl_key_file={}", folder.join("server.key").display())]);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg("sh").arg(server.get_program()).args(server.get_args());
    shell.env("FOLDER", folder).stdin(Stdio::piped());
    let mut shell = shell.spawn().expect("a shell");
    let held = shell.stdin.take().expect("piped");
    (shell, held)
}

/// Where Debian's packages put the binaries, the newest of them; or wherever they are.
fn binaries() -> PathBuf {
    let version = |it: &PathBuf| it.file_name()?.to_str()?.parse::<u32>().ok();
    let entries = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = entries.filter_map(|it| Some(it.ok()?.path())).max_by_key(version);
    let folder = newest.map(|it| it.join("bin")).filter(|it| it.join("initdb").is_file());
    folder.unwrap_or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = std::env::split_paths(&path);
        folders
            .find(|it| it.join("initdb").is_file())
            .expect("there is no PostgreSQL: run `make postgres`")
    })
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id starts");
    output.stdout.trim_ascii() == b"0"
}

/// A program of the server's, as whoever may run it.
fn as_server(name: &str) -> Command {
    let program = binaries().join(name);
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

/// The server insists that nobody else can read its key.
fn write_secret(path: &Path, text: &str) {
    let mut options = fs::OpenOptions::new();
    let file = options.create(true).write(true).mode(0o600).open(path);
    file.expect("a file").write_all(text.as_bytes()).expect("written");
}

fn hand_over(folder: &Path) {
    if is_root() {
        let chown = Command::new("chown").args(["-R", "postgres:postgres"]).arg(folder).status();
        assert!(chown.is_ok_and(|it| it.success()), "{} can be given away", folder.display());
    }
}
