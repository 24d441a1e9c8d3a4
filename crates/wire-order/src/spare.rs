//! Empty vectors that have been filled before, so that nothing is allocated for what waits.

/// Empty vectors for later use.
///
/// Whoever gives a vector away with frames in it takes one back in exchange, if there is one: so as many go round as are full at the same time, and none
/// gathers where it is not needed.
pub(crate) struct Spare<F> {
    vectors: Vec<Vec<F>>,
    /// For how many frames all of them have space together, and may have.
    space: usize,
    most: usize,
}

impl<F> Spare<F> {
    /// Vectors with space for at most so many frames together.
    pub(crate) const fn new(most: usize) -> Self {
        Self { vectors: Vec::new(), space: 0, most }
    }

    /// One of the vectors; a new one, for which nothing is allocated yet, where there is none.
    pub(crate) fn take(&mut self) -> Vec<F> {
        let vector = self.vectors.pop().unwrap_or_default();
        self.space = self.space.saturating_sub(vector.capacity());
        vector
    }

    /// Keeps an empty vector. One that nothing was allocated for is of no use, and one beyond the bound is freed.
    pub(crate) fn keep(&mut self, vector: Vec<F>) {
        debug_assert!(vector.is_empty());
        let space = self.space.saturating_add(vector.capacity());
        if vector.capacity() != 0 && space <= self.most {
            self.space = space;
            self.vectors.push(vector);
        }
    }
}
