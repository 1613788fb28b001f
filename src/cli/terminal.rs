//! What leaves the program: results on stdout, all else on stderr.
//!
//! Text may hold names out of model files, which are untrusted: control characters are shown
//! escaped and long names cut. A reader that has gone is no error.

use std::fmt::{Display, Write as _};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::hints::hint;

/// The most characters of one name in a message.
const LONGEST_NAME: usize = 200;
/// The most characters of one message.
const LONGEST_MESSAGE: usize = 4000;

static QUIET: AtomicBool = AtomicBool::new(false);

/// What `-q` and `--color` say.
pub fn set_up(quiet: bool, color: clap::ColorChoice) {
    QUIET.store(quiet, Ordering::Relaxed);
    let color = match color {
        clap::ColorChoice::Auto => ColorChoice::Auto,
        clap::ColorChoice::Always => ColorChoice::Always,
        clap::ColorChoice::Never => ColorChoice::Never,
    };
    color.write_global();
}

/// Whether nothing but warnings and errors is told.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Whether stderr may hold colours.
pub fn has_color() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// Whether somebody watches stderr.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Tells the user what happens.
pub fn note(text: impl Display) {
    if !is_quiet() {
        say(format_args!("hgc: {}", shown(&text.to_string())));
    }
}

/// Warns the user.
pub fn warn(text: impl Display) {
    let style = AnsiColor::Yellow.on_default().bold();
    tell("warning", style, &text.to_string());
}

/// Tells of an error and what caused it.
pub fn error(error: &anyhow::Error) {
    let style = AnsiColor::Red.on_default().bold();
    tell("error", style, &error.to_string());
    for cause in error.chain().skip(1) {
        say(format_args!("  because: {}", shown(&cause.to_string())));
    }
    if let Some(hint) = hint(error) {
        say(format_args!("  help: {hint}"));
    }
}

/// What is wrong with the arguments, in the words of the parser.
pub fn usage(text: &str) {
    say(format_args!("{}", shown(text.trim_end())));
}

/// Tells of an error as JSON.
pub fn error_as_json(error: &anyhow::Error) {
    #[derive(Serialize)]
    struct Failure {
        error: String,
        causes: Vec<String>,
    }
    let failure = Failure {
        error: error.to_string(),
        causes: error.chain().skip(1).map(ToString::to_string).collect(),
    };
    if let Ok(text) = json("hgc.error.v1", &[failure]) {
        say(format_args!("{text}"));
    }
}

fn tell(word: &str, style: Style, text: &str) {
    let (on, off) = (style.render(), style.render_reset());
    say(format_args!("hgc: {on}{word}{off}: {}", shown(text)));
}

/// A line on stderr; one that cannot be written is lost.
fn say(line: std::fmt::Arguments<'_>) {
    let mut out = AutoStream::auto(io::stderr().lock());
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Writes a result to stdout. A reader that has gone (`hgc verify ... | head`) changes nothing
/// about the result, nor about the exit code that tells it.
pub fn print(text: &str) -> anyhow::Result<()> {
    put(&escaped(text))
}

/// Writes results as JSON to stdout: an array, each with the name of its schema.
pub fn print_json<T: Serialize>(schema: &str, results: &[T]) -> anyhow::Result<()> {
    put(&json(schema, results)?)
}

/// Results as JSON: an array, each with the name of its schema.
pub fn json<T: Serialize>(schema: &str, results: &[T]) -> anyhow::Result<String> {
    #[derive(Serialize)]
    struct Tagged<'a, T> {
        schema: &'a str,
        #[serde(flatten)]
        result: &'a T,
    }
    let tagged: Vec<_> = results
        .iter()
        .map(|result| Tagged { schema, result })
        .collect();
    Ok(serde_json::to_string_pretty(&tagged)?)
}

fn put(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// A message without control characters, and with long names cut.
pub fn shown(text: &str) -> String {
    // Sentences have spaces; a name of many words is cut with the whole message.
    let is_sentence = |part: &str| part.matches(' ').count() * 20 > part.chars().count();
    let parts = text.split('`').map(|part| match is_sentence(part) {
        true => part.to_owned(),
        false => cut(part, LONGEST_NAME),
    });
    escaped(&cut(&parts.collect::<Vec<_>>().join("`"), LONGEST_MESSAGE))
}

/// At most `most` characters: begin and end of what is longer, and how long it is.
fn cut(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let (first, last) = (most * 3 / 4, most / 4);
    let begin: String = text.chars().take(first).collect();
    let end: String = text.chars().skip(count - last).collect();
    format!("{begin}...{end} ({count} characters)")
}

/// The text with control characters, and those that turn the direction of writing, as escapes.
/// Lines stay lines.
fn escaped(text: &str) -> String {
    let raw = |c: char| {
        let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        (c.is_control() && c != '\n') || turns
    };
    if !text.contains(raw) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if raw(c) {
            let _ = write!(safe, "{}", c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_lines_stay() {
        assert_eq!(shown("a\u{1b}[31mb\nc\0"), "a\\u{1b}[31mb\nc\\u{0}");
        assert_eq!(shown("left\u{202e}right"), "left\\u{202e}right");
        assert_eq!(shown("élève 図"), "élève 図");
    }

    #[test]
    fn long_names_are_cut_and_sentences_are_not() {
        let name = "x".repeat(1 << 20);
        let text = shown(&format!("node `{name}` has no input `y`; give it one"));
        assert!(text.len() < 400, "{}", text.len());
        assert!(text.contains("(1048576 characters)") && text.ends_with("give it one"));
        let sentence = "This is a sentence of many short words that goes on. ".repeat(10);
        assert_eq!(shown(&sentence), sentence);
    }

    #[test]
    fn a_whole_message_is_cut_too() {
        let text = shown(&"word ".repeat(1 << 18));
        assert!(text.len() < 5000, "{}", text.len());
    }

    #[test]
    fn results_are_an_array_with_their_schema() -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct One {
            count: u64,
        }
        let text = json("hgc.test.v1", &[One { count: u64::MAX }])?;
        let value: serde_json::Value = serde_json::from_str(&text)?;
        assert_eq!(value[0]["schema"], "hgc.test.v1");
        assert_eq!(value[0]["count"], u64::MAX);
        Ok(())
    }
}
