//! Joining the output files of tasks.

use anyhow::{Context as _, Result};
use serde_json::{Deserializer, Value};

/// The output of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TaskOutput {
    /// The task.
    pub(super) task: String,
    /// The files that the task is about.
    pub(super) files: Vec<String>,
    /// The content of the task's output file.
    pub(super) bytes: Vec<u8>,
    /// The time at which the output was accepted, in milliseconds.
    pub(super) at: u64,
}

/// Returns the items of all outputs in order. An array contributes each of its items; any other
/// value is one item. An output may hold several values, as JSON lines do.
pub(super) fn items(outputs: &[TaskOutput]) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    for output in outputs {
        for value in Deserializer::from_slice(&output.bytes).into_iter::<Value>() {
            let value = value.with_context(|| {
                format!(
                    "the output of `{}` is not JSON; a check with `output` and `schema` rejects such outputs, and `merge = \"concat\"` \
                     joins any text",
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

/// Formats the items as JSON lines.
pub(super) fn lines(items: &[Value]) -> Vec<u8> {
    items.iter().map(|item| format!("{item}\n")).collect::<String>().into_bytes()
}

/// Formats the items as one indented JSON array.
pub(super) fn array(items: &[Value]) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(items)?;
    text.push(b'\n');
    Ok(text)
}

/// Concatenates the outputs. A line break is added to an output that does not end with one.
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
        let output = |(n, text): (usize, &&str)| TaskOutput {
            task: format!("t{n}"),
            files: vec![format!("f{n}")],
            bytes: text.as_bytes().to_vec(),
            at: 0,
        };
        texts.iter().enumerate().map(output).collect()
    }

    #[test]
    fn items_of_arrays_and_other_values_are_joined_in_order() {
        let all = outputs(&["[1, [2]]", "{\"b\": 1, \"a\": 2}", "", "[]", "3\n4\n"]);
        let items = items(&all).unwrap();
        let text = String::from_utf8(lines(&items)).unwrap();
        assert_eq!(text, "1\n[2]\n{\"b\":1,\"a\":2}\n3\n4\n");
        assert_eq!(serde_json::from_slice::<Vec<Value>>(&array(&items).unwrap()).unwrap(), items);
        assert_eq!(array(&[]).unwrap(), b"[]\n");
    }

    #[test]
    fn invalid_json_error_names_the_task() {
        let message = format!("{:#}", items(&outputs(&["[]", "all good"])).unwrap_err());
        assert!(message.starts_with("the output of `t1` is not JSON; "), "{message}");
    }

    #[test]
    fn concat_ends_every_output_with_a_line_break() {
        assert_eq!(concat(&outputs(&["a", "", "b\n", "c"])), b"a\nb\nc\n");
    }
}
