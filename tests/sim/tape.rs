//! Decisions of the world, read from a list: shorter lists are calmer worlds, so proptest shrinks towards calm.

/// A list of numbers that is read once; after its end every choice is the first one.
#[derive(Debug, Clone)]
pub(crate) struct Tape {
    numbers: Vec<u16>,
    at: usize,
}

impl Tape {
    pub(crate) fn new(numbers: Vec<u16>) -> Self {
        Self { numbers, at: 0 }
    }

    pub(crate) fn over(&self) -> bool {
        self.at >= self.numbers.len()
    }

    /// A number below `n`.
    pub(crate) fn pick(&mut self, n: usize) -> usize {
        let number = self.numbers.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(number) % n.max(1)
    }

    /// One of these, if there are any.
    pub(crate) fn one<T: Clone>(&mut self, some: &[T]) -> Option<T> {
        if some.is_empty() {
            return None;
        }
        let at = self.pick(some.len());
        some.get(at).cloned()
    }
}
