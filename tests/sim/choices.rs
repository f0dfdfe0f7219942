//! The random choices of a simulated world, read from a list.
//!
//! A shorter list makes fewer disturbances, so proptest shrinks towards a world without any.

/// A list of numbers that is read once. After its end every choice is the first alternative.
#[derive(Debug, Clone)]
pub(crate) struct Choices {
    numbers: Vec<u16>,
    next: usize,
}

impl Choices {
    pub(crate) fn new(numbers: Vec<u16>) -> Self {
        Self { numbers, next: 0 }
    }

    /// Returns true if the list has been read to its end.
    pub(crate) fn exhausted(&self) -> bool {
        self.next >= self.numbers.len()
    }

    /// Returns a number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let number = self.numbers.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        usize::from(number) % n.max(1)
    }

    /// Returns one of the items, or `None` if there are none.
    pub(crate) fn pick<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        if items.is_empty() {
            return None;
        }
        let index = self.below(items.len());
        items.get(index).cloned()
    }
}
