//! Small systems of linear equations.

/// The solution of a positive definite system, by Gauss elimination.
pub fn solve(matrix: Vec<Vec<f64>>, right: &[f64]) -> Vec<f64> {
    let right = right.iter().map(|value| vec![*value]).collect();
    solved(matrix, right).into_iter().flatten().collect()
}

/// The inverse of a positive definite matrix.
pub fn inverse(matrix: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = matrix.len();
    let row = |i| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect();
    solved(matrix, (0..n).map(row).collect())
}

/// The same for several right sides, which are columns.
#[allow(clippy::needless_range_loop)]
fn solved(mut matrix: Vec<Vec<f64>>, mut right: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = matrix.len();
    for i in 0..n {
        for j in i + 1..n {
            let share = matrix[j][i] / matrix[i][i];
            subtract(&mut matrix, i, j, share);
            subtract(&mut right, i, j, share);
        }
    }
    for i in (0..n).rev() {
        for j in i + 1..n {
            let share = matrix[i][j];
            subtract(&mut right, j, i, share);
        }
        for value in &mut right[i] {
            *value /= matrix[i][i];
        }
    }
    right
}

/// Takes so much of row `from` from row `of`.
fn subtract(rows: &mut [Vec<f64>], from: usize, of: usize, share: f64) {
    let taken = std::mem::take(&mut rows[from]);
    for (own, other) in rows[of].iter_mut().zip(&taken) {
        *own -= share * other;
    }
    rows[from] = taken;
}

#[cfg(test)]
mod tests {
    use super::{inverse, solve};

    #[test]
    fn systems_are_solved() {
        let matrix = vec![
            vec![4.0, 1.0, 0.0],
            vec![1.0, 3.0, 1.0],
            vec![0.0, 1.0, 2.0],
        ];
        let times = |x: &[f64]| -> Vec<f64> {
            let row = |row: &Vec<f64>| row.iter().zip(x).map(|(a, b)| a * b).sum();
            matrix.iter().map(row).collect()
        };
        let found = solve(matrix.clone(), &[1.0, -2.0, 0.5]);
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near(&times(&found), &[1.0, -2.0, 0.5]), "{found:?}");
        // It is symmetric: rows are columns.
        let inverse = inverse(matrix.clone());
        assert!(near(&times(&inverse[1]), &[0.0, 1.0, 0.0]), "{inverse:?}");
    }
}
