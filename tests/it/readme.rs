//! The README's tour does as printed: its commands are run in one shell, and what it shows comes.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::support::{Server, eventually};

/// A block of commands, and what the README shows as their output.
struct Step {
    commands: String,
    shown: Option<String>,
}

#[tokio::test]
async fn the_tour_works_as_printed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let steps = tour(&fs::read_to_string(path).unwrap());
    assert!(steps.len() > 5, "the tour has {} steps", steps.len());
    let mut server = Server::new("", None);
    server.start().await;
    let mut shell = Shell::start(server.home());

    for step in steps {
        let commands = step.commands.replace("http://127.0.0.1:7070", &server.url());
        match step.shown {
            None => drop(shell.run(&commands)),
            // What publishes or creates runs once; a question is asked until its answer has come.
            Some(shown) if commands.contains(" -d ") => {
                assert_eq!(shell.run(&commands), shown, "{commands}")
            }
            Some(shown) => {
                eventually(&commands, async || match shell.run(&commands) {
                    answer if answer == shown => Ok(()),
                    other => Err(other),
                })
                .await;
            }
        }
    }
}

/// The blocks marked `sh tour`, each with the `text` block that follows at once, if one does.
fn tour(readme: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in readme.split("```sh tour\n").skip(1) {
        let (commands, rest) = part.split_once("```\n").expect("a block ends");
        let shown = rest.strip_prefix("```text\n").and_then(|rest| rest.split_once("```"));
        steps.push(Step {
            commands: commands.to_owned(),
            shown: shown.map(|(shown, _)| shown.to_owned()),
        });
    }
    steps
}

/// One shell for the whole tour, so that what a step sets is there for the next.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new("bash")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash is there");
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    /// What the commands print.
    fn run(&mut self, commands: &str) -> String {
        const END: &str = "-- end of step --";
        writeln!(self.input, "{commands}\necho '{END}'").unwrap();
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the shell ended: {printed}");
            if line.trim_end() == END {
                return printed;
            }
            printed.push_str(&line);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
