//! How handed-in files become one.

use anyhow::{Context as _, Result};
use serde_json::{Deserializer, Value};

/// What one task handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TaskOutput {
    /// The task.
    pub(super) task: String,
    /// Its files.
    pub(super) files: Vec<String>,
    /// The file's content.
    pub(super) bytes: Vec<u8>,
}

/// The items of all outputs in their order: what arrays hold, and every value that is none. An output may hold several
/// values one after the other, as JSON lines do.
pub(super) fn items(outputs: &[TaskOutput]) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    for output in outputs {
        for value in Deserializer::from_slice(&output.bytes).into_iter::<Value>() {
            let value = value.with_context(|| {
                format!(
                    "what `{}` handed in is not JSON; a check with `output` and `schema` finds that before it is accepted, \
                     and `merge = \"concat\"` joins any text",
                    output.task
                )
            })?;
            match value {
                Value::Array(list) => items.extend(list),
                other @ (Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Object(_)) => items.push(other),
            }
        }
    }
    Ok(items)
}

/// An item a line.
pub(super) fn lines(items: &[Value]) -> Vec<u8> {
    items.iter().map(|item| format!("{item}\n")).collect::<String>().into_bytes()
}

/// One JSON array, for people and programs.
pub(super) fn array(items: &[Value]) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(items)?;
    text.push(b'\n');
    Ok(text)
}

/// One after the other; a last line without an end gets one.
pub(super) fn concat(outputs: &[TaskOutput]) -> Vec<u8> {
    let mut all = Vec::new();
    for output in outputs {
        all.extend_from_slice(&output.bytes);
        if all.last().is_some_and(|byte| *byte != b'\n') {
            all.push(b'\n');
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(texts: &[&str]) -> Vec<TaskOutput> {
        let one = |(n, text): (usize, &&str)| TaskOutput {
            task: format!("t{n}"),
            files: vec![format!("f{n}")],
            bytes: text.as_bytes().to_vec(),
        };
        texts.iter().enumerate().map(one).collect()
    }

    #[test]
    fn arrays_are_opened_and_everything_else_is_an_item() {
        let all = outputs(&["[1, [2]]", "{\"b\": 1, \"a\": 2}", "", "[]", "3\n4\n"]);
        let items = items(&all).unwrap();
        let text = String::from_utf8(lines(&items)).unwrap();
        assert_eq!(text, "1\n[2]\n{\"b\":1,\"a\":2}\n3\n4\n");
        assert_eq!(serde_json::from_slice::<Vec<Value>>(&array(&items).unwrap()).unwrap(), items);
        assert_eq!(array(&[]).unwrap(), b"[]\n");
    }

    #[test]
    fn what_is_no_json_names_its_task() {
        let said = format!("{:#}", items(&outputs(&["[]", "all good"])).unwrap_err());
        assert!(said.starts_with("what `t1` handed in is not JSON; "), "{said}");
    }

    #[test]
    fn texts_are_joined_by_lines() {
        assert_eq!(concat(&outputs(&["a", "", "b\n", "c"])), b"a\nb\nc\n");
    }
}
