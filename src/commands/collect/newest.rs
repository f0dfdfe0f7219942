//! The newest output about each file. After a replan, several tasks of a run may have outputs about
//! the same file, and a file may no longer exist.

use serde_json::{Deserializer, Value};

use super::join::TaskOutput;

/// Returns the outputs in order, without the parts about files that have a newer output or that do
/// not exist any more. Drops outputs that no part is left of.
pub(super) fn newest(outputs: Vec<TaskOutput>, exists: &dyn Fn(&str) -> bool) -> Vec<TaskOutput> {
    let times: Vec<_> = outputs.iter().enumerate().map(|(n, output)| (output.at, n)).collect();
    let is_newest = |n: usize, path: &str| {
        let newer = |m: &usize| times[*m] > times[n] && outputs[*m].files.iter().any(|f| f == path);
        !(0..outputs.len()).any(|m| newer(&m))
    };
    let mut kept = Vec::with_capacity(outputs.len());
    for (n, output) in outputs.iter().enumerate() {
        let is_current = |path: &str| exists(path) && is_newest(n, path);
        let files: Vec<_> = output.files.iter().filter(|path| is_current(path)).cloned().collect();
        if files.len() == output.files.len() {
            kept.push(output.clone());
        } else if !files.is_empty() {
            let bytes = without_items(&output.bytes, &|path| {
                output.files.iter().any(|f| f == path) && !is_current(path)
            });
            kept.push(TaskOutput { files, bytes, ..output.clone() });
        }
    }
    kept
}

/// Returns an output without the items whose `file` is outdated. An output that is not JSON stays.
fn without_items(bytes: &[u8], is_outdated: &dyn Fn(&str) -> bool) -> Vec<u8> {
    let values: Result<Vec<Value>, _> = Deserializer::from_slice(bytes).into_iter().collect();
    let Ok(mut values) = values else { return bytes.to_vec() };
    let keeps = |item: &Value| !item.get("file").and_then(Value::as_str).is_some_and(is_outdated);
    values.retain(keeps);
    for value in &mut values {
        if let Value::Array(items) = value {
            items.retain(keeps);
        }
    }
    values.iter().map(|value| format!("{value}\n")).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(task: &str, at: u64, files: &[&str], text: &str) -> TaskOutput {
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        TaskOutput { task: task.into(), files, bytes: text.into(), at }
    }

    #[test]
    fn each_file_is_collected_once_in_its_newest_form_if_it_exists() {
        let first = r#"[{"file": "a", "n": 1}, {"file": "b", "n": 1}, {"file": "gone"}, {"n": 2}]"#;
        let outputs = vec![
            output("one", 1, &["a", "b", "gone"], first),
            output("two", 3, &["b"], r#"[{"file": "b", "n": 2}]"#),
            output("three", 2, &["b"], "[]"),
            output("four", 4, &["gone"], "[5]"),
            output("five", 5, &[], "[6]"),
        ];
        let kept = newest(outputs, &|path| path != "gone");
        let texts: Vec<_> = kept
            .iter()
            .map(|o| (o.task.as_str(), o.files.join(" "), String::from_utf8_lossy(&o.bytes)))
            .collect();
        assert_eq!(texts[0], ("one", "a".into(), "[{\"file\":\"a\",\"n\":1},{\"n\":2}]\n".into()));
        assert_eq!(texts[1], ("two", "b".into(), r#"[{"file": "b", "n": 2}]"#.into()));
        assert_eq!(texts[2], ("five", String::new(), "[6]".into()));
        assert_eq!(texts.len(), 3);
    }

    #[test]
    fn text_output_of_a_changed_task_stays_as_long_as_one_of_its_files_is_current() {
        let outputs =
            vec![output("one", 1, &["a", "gone"], "words"), output("two", 1, &["gone"], "x")];
        let kept = newest(outputs, &|path| path != "gone");
        assert_eq!((kept.len(), kept[0].bytes.as_slice()), (1, &b"words"[..]));
    }
}
