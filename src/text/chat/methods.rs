//! Python's methods of texts that minijinja's own set lacks.

use minijinja::{Error, ErrorKind, Value};

/// Widest text that padding makes, in characters.
const WIDTH_MAX: usize = 1 << 16;

/// Calls `text.name(*args)`; `None` if it is no method of this file.
pub(super) fn call(text: &str, name: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    Some(match name {
        "partition" => parts(text, name, args, false),
        "rpartition" => parts(text, name, args, true),
        "rsplit" => rsplit(text, args),
        "index" => position(text, name, args, false),
        "rindex" => position(text, name, args, true),
        "ljust" => padded(text, name, args, |missing| (0, missing)),
        "rjust" => padded(text, name, args, |missing| (missing, 0)),
        "center" => {
            // Python puts the odd one to the left where the width is odd.
            let odd = args.first().and_then(Value::as_usize).unwrap_or_default() & 1;
            padded(text, name, args, |missing| {
                let left = missing / 2 + (missing & odd & 1);
                (left, missing - left)
            })
        }
        "zfill" => zero_filled(text, args),
        "casefold" => Ok(Value::from(text.to_lowercase().replace('ß', "ss"))),
        "swapcase" => Ok(Value::from(text.chars().flat_map(swapped).collect::<String>())),
        "isdecimal" => Ok(Value::from(!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))),
        _ => return None,
    })
}

fn wrong(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{name}: {why}"))
}

/// The separator, which may not be empty.
fn separator<'a>(name: &str, args: &'a [Value]) -> Result<&'a str, Error> {
    match args {
        [separator] => separator.as_str().filter(|text| !text.is_empty()),
        _ => None,
    }
    .ok_or_else(|| wrong(name, "the argument is not a text of at least one character"))
}

/// The text before a separator, the separator, and the text after it.
fn parts(text: &str, name: &str, args: &[Value], last: bool) -> Result<Value, Error> {
    let separator = separator(name, args)?;
    let split = if last { text.rsplit_once(separator) } else { text.split_once(separator) };
    let parts = match split {
        Some((before, after)) => [before, separator, after],
        None if last => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(parts.map(str::to_owned).to_vec()))
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let most = match args.get(1).map(|n| i64::try_from(n.clone())) {
        None => None,
        Some(Ok(n)) => usize::try_from(n).ok(),
        Some(Err(_)) => return Err(wrong("rsplit", "maxsplit is not a whole number")),
    };
    let mut parts: Vec<&str> = match (args.first().filter(|separator| !separator.is_none()), most) {
        (Some(_), most) => {
            let separator = separator("rsplit", &args[..1])?;
            match most {
                Some(most) => text.rsplitn(most + 1, separator).collect(),
                None => text.rsplit(separator).collect(),
            }
        }
        (None, None) => text.split_whitespace().rev().collect(),
        (None, Some(most)) => {
            let (mut rest, mut parts) = (text.trim_end(), Vec::new());
            while parts.len() < most
                && let Some((before, last)) = rest.rsplit_once(char::is_whitespace)
            {
                parts.push(last);
                rest = before.trim_end();
            }
            parts.extend(Some(rest).filter(|rest| !rest.is_empty()));
            parts
        }
    };
    parts.reverse();
    Ok(Value::from_iter(parts))
}

/// Where a text begins, in characters.
fn position(text: &str, name: &str, args: &[Value], last: bool) -> Result<Value, Error> {
    let [part] = args else { return Err(wrong(name, "one text is needed")) };
    let part = part.as_str().ok_or_else(|| wrong(name, "the argument is not a text"))?;
    let at = if last { text.rfind(part) } else { text.find(part) };
    let at = at.ok_or_else(|| wrong(name, "substring not found"))?;
    Ok(Value::from(text[..at].chars().count()))
}

fn padded(
    text: &str,
    name: &str,
    args: &[Value],
    sides: impl Fn(usize) -> (usize, usize),
) -> Result<Value, Error> {
    let width = args.first().and_then(Value::as_usize).filter(|width| *width <= WIDTH_MAX);
    let width = width.ok_or_else(|| wrong(name, "the width is not a number up to 65536"))?;
    let fill = args.get(1).map_or(Some(" "), Value::as_str).unwrap_or_default();
    if fill.chars().count() != 1 {
        return Err(wrong(name, "the fill character is not one character"));
    }
    let (left, right) = sides(width.saturating_sub(text.chars().count()));
    Ok(Value::from([&fill.repeat(left), text, &fill.repeat(right)].concat()))
}

fn zero_filled(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
    let width = args.first().and_then(Value::as_usize).filter(|width| *width <= WIDTH_MAX);
    let width = width.ok_or_else(|| wrong("zfill", "the width is not a number up to 65536"))?;
    let zeros = "0".repeat(width.saturating_sub(text.chars().count()));
    Ok(Value::from([sign, &zeros, digits].concat()))
}

fn swapped(c: char) -> Vec<char> {
    if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
}
