//! The inverse of an index-to-position matrix with the bits that ITK gives it.
//!
//! ITK inverts by singular values (Golub and Reinsch's method as in LINPACK's DSVDC: Householder reflections to a bidiagonal
//! matrix, then shifted QR steps). Where points of a new grid fall midway between voxels, the last bit decides which one is
//! nearer, so the same operations are done here in the same order. Checked against SimpleITK on 400 random directions.

type Matrix = [[f64; 3]; 3];

/// The matrix from position to index, for a matrix (row, column) from index to position.
pub(super) fn inverse(matrix: Matrix) -> Matrix {
    decompose(matrix).map_or_else(
        || by_minors(matrix),
        |Svd { u, s, v }| {
            let scaled: Matrix = std::array::from_fn(|k| v[k].map(|value| value * (1.0 / s[k])));
            std::array::from_fn(|r| {
                std::array::from_fn(|c| scaled[0][r] * u[0][c] + scaled[1][r] * u[1][c] + scaled[2][r] * u[2][c])
            })
        },
    )
}

/// For a matrix that is singular but for rounding.
fn by_minors(m: Matrix) -> Matrix {
    let minor = |r: usize, c: usize| {
        let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
        m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
    };
    let det = m[0][0] * minor(0, 0) + m[0][1] * minor(0, 1) + m[0][2] * minor(0, 2);
    std::array::from_fn(|r| std::array::from_fn(|c| minor(c, r) / det))
}

/// Singular vectors as columns (`u[k]` is one vector) and singular values, largest first.
struct Svd {
    u: Matrix,
    s: [f64; 3],
    v: Matrix,
}

/// None where a singular value is negligible or the steps do not converge.
fn decompose(matrix: Matrix) -> Option<Svd> {
    let Bidiagonal { mut u, mut s, mut e, mut v } = Bidiagonal::new(matrix);
    let mut steps = 0;
    // The values from `m` on are found; `last` is the one that is iterated for.
    let mut last = 2;
    loop {
        // The block that ends with `last` begins where the super-diagonal is negligible.
        let mut first = last;
        while first > 0 {
            let size = s[first - 1].abs() + s[first].abs();
            if size + e[first - 1].abs() == size {
                e[first - 1] = 0.0;
                break;
            }
            first -= 1;
        }
        if first < last {
            let negligible = |k: usize| {
                let before = if k > first { e[k - 1].abs() } else { 0.0 };
                let beside = if k < last { e[k].abs() } else { 0.0 } + before;
                beside + s[k].abs() == beside
            };
            steps += 1;
            if steps > 1000 || (first..=last).any(negligible) {
                return None;
            }
            step(&mut u, &mut s, &mut e, &mut v, first, last);
            continue;
        }
        if s[last] < 0.0 {
            s[last] = -s[last];
            v[last] = v[last].map(|x| -x);
        }
        let mut k = last;
        while k < 2 && s[k] < s[k + 1] {
            s.swap(k, k + 1);
            u.swap(k, k + 1);
            v.swap(k, k + 1);
            k += 1;
        }
        if last == 0 {
            return s.iter().all(|s| *s > 0.0).then_some(Svd { u, s, v });
        }
        last -= 1;
        steps = 0;
    }
}

/// One shifted QR step on the block `first`..=`last`.
fn step(u: &mut Matrix, s: &mut [f64; 3], e: &mut [f64; 3], v: &mut Matrix, first: usize, last: usize) {
    let sizes = [s[last], s[last - 1], e[last - 1], s[first], e[first]].map(f64::abs);
    let scale = sizes.into_iter().fold(0.0, f64::max);
    let [sm, smm1, emm1, sl, el] = [s[last], s[last - 1], e[last - 1], s[first], e[first]].map(|x| x / scale);
    let b = ((smm1 + sm) * (smm1 - sm) + emm1 * emm1) / 2.0;
    let c = (sm * emm1) * (sm * emm1);
    let mut shift = 0.0;
    if b != 0.0 || c != 0.0 {
        let root = (b * b + c).sqrt();
        shift = c / (b + if b < 0.0 { -root } else { root });
    }
    let (mut f, mut g) = ((sl + sm) * (sl - sm) + shift, sl * el);
    for k in first..last {
        let (r, cos, sin) = givens(f, g);
        if k > first {
            e[k - 1] = r;
        }
        f = cos * s[k] + sin * e[k];
        e[k] = cos * e[k] - sin * s[k];
        g = sin * s[k + 1];
        s[k + 1] *= cos;
        rotate(v, k, cos, sin);
        let (r, cos, sin) = givens(f, g);
        s[k] = r;
        f = cos * e[k] + sin * s[k + 1];
        s[k + 1] = -sin * e[k] + cos * s[k + 1];
        g = sin * e[k + 1];
        e[k + 1] *= cos;
        rotate(u, k, cos, sin);
    }
    e[last - 1] = f;
}

/// The rotation that turns (a, b) into (r, 0): r, cosine, sine.
fn givens(a: f64, b: f64) -> (f64, f64, f64) {
    let scale = a.abs() + b.abs();
    if scale == 0.0 {
        return (0.0, 1.0, 0.0);
    }
    let size = scale * ((a / scale) * (a / scale) + (b / scale) * (b / scale)).sqrt();
    let r = size.copysign(if a.abs() > b.abs() { a } else { b });
    (r, a / r, b / r)
}

/// Rotates the vectors k and k + 1.
fn rotate(vectors: &mut Matrix, k: usize, cos: f64, sin: f64) {
    let (a, b) = (vectors[k], vectors[k + 1]);
    vectors[k] = std::array::from_fn(|i| cos * a[i] + sin * b[i]);
    vectors[k + 1] = std::array::from_fn(|i| cos * b[i] - sin * a[i]);
}

/// U B V', with B having `s` on and `e` above its diagonal; vectors as columns.
struct Bidiagonal {
    u: Matrix,
    s: [f64; 3],
    e: [f64; 3],
    v: Matrix,
}

impl Bidiagonal {
    fn new(matrix: Matrix) -> Bidiagonal {
        // Columns; each is reflected onto its diagonal element, then the first row onto its second element.
        let mut x: Matrix = std::array::from_fn(|c| std::array::from_fn(|r| matrix[r][c]));
        let (mut u, mut v) = ([[0.0; 3]; 3], [[0.0; 3]; 3]);
        let (mut s, mut e) = ([0.0; 3], [0.0; 3]);
        for l in 0..2 {
            s[l] = reflector(&mut x[l][l..]);
            let (left, right) = x.split_at_mut(l + 1);
            for (column, e) in right.iter_mut().zip(&mut e[l + 1..]) {
                if s[l] != 0.0 {
                    reflect(&left[l][l..], &mut column[l..]);
                }
                *e = column[l];
            }
            u[l][l..].copy_from_slice(&x[l][l..]);
            if l == 0 {
                e[0] = reflector(&mut e[1..]);
                if e[0] != 0.0 {
                    let work: [f64; 3] = std::array::from_fn(|i| e[1] * x[1][i] + e[2] * x[2][i]);
                    for j in 1..3 {
                        let t = -e[j] / e[1];
                        (1..3).for_each(|i| x[j][i] += t * work[i]);
                    }
                }
                v[0][1..].copy_from_slice(&e[1..]);
            }
        }
        (s[2], e[1], e[2]) = (x[2][2], x[2][1], 0.0);
        u[2] = [0.0, 0.0, 1.0];
        for l in [1, 0] {
            if s[l] == 0.0 {
                u[l] = std::array::from_fn(|i| f64::from(u8::from(i == l)));
                continue;
            }
            for j in l + 1..3 {
                let (left, right) = u.split_at_mut(j);
                reflect(&left[l][l..], &mut right[0][l..]);
            }
            u[l] = u[l].map(|x| -x);
            u[l][l] += 1.0;
            u[l][..l].fill(0.0);
        }
        (v[1], v[2]) = ([0.0, 1.0, 0.0], [0.0, 0.0, 1.0]);
        if e[0] != 0.0 {
            for j in 1..3 {
                let (left, right) = v.split_at_mut(j);
                reflect(&left[0][1..], &mut right[0][1..]);
            }
        }
        v[0] = [1.0, 0.0, 0.0];
        Bidiagonal { u, s, e, v }
    }
}

/// Turns a vector into the one that reflects it onto its first element, and gives that element.
fn reflector(vector: &mut [f64]) -> f64 {
    let size = length(vector);
    if size == 0.0 {
        return -size;
    }
    let size = if vector[0] == 0.0 { size } else { size.copysign(vector[0]) };
    vector.iter_mut().for_each(|x| *x *= 1.0 / size);
    vector[0] += 1.0;
    -size
}

fn reflect(by: &[f64], vector: &mut [f64]) {
    let t = -by.iter().zip(&*vector).fold(0.0, |sum, (a, b)| sum + a * b) / by[0];
    vector.iter_mut().zip(by).for_each(|(x, b)| *x += t * b);
}

/// Euclidean length, summed in units of the largest element so far (as BLAS did).
fn length(vector: &[f64]) -> f64 {
    let (mut scale, mut sum) = (0.0f64, 1.0f64);
    for size in vector.iter().map(|x| x.abs()).filter(|x| *x != 0.0) {
        if scale < size {
            sum = 1.0 + sum * ((scale / size) * (scale / size));
            scale = size;
        } else {
            sum += (size / scale) * (size / scale);
        }
    }
    scale * sum.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_has_the_bits_of_itk() {
        // SimpleITK 2.5.2: TransformPhysicalPointToContinuousIndex of unit vectors, for the direction and spacing below.
        let (direction, spacing) = CASE;
        let matrix = std::array::from_fn(|r| std::array::from_fn(|c| direction[r][c] * spacing[c]));
        assert_eq!(inverse(matrix), ITK);
    }

    #[test]
    fn matrices_along_the_axes_are_inverted_exactly() {
        let back = inverse([[0.0, -0.8, 0.0], [0.9, 0.0, 0.0], [0.0, 0.0, 2.5]]);
        assert_eq!(back, [[0.0, 1.0 / 0.9, 0.0], [-1.0 / 0.8, 0.0, 0.0], [0.0, 0.0, 0.4]]);
    }

    const CASE: (Matrix, [f64; 3]) = (
        [
            [0.990128359101119, -0.06923651956680049, -0.12186934340514749],
            [0.04295578842596179, 0.9775323761439932, -0.20636194860240745],
            [0.13341901193019576, 0.19908982381968873, 0.9708566368455313],
        ],
        [0.8, 0.9, 2.5],
    );
    const ITK: Matrix = [
        [1.2376604488763987, 0.053694735532452235, 0.1667737649127447],
        [-0.07692946618533379, 1.0861470846044365, 0.22121091535520918],
        [-0.04874773736205903, -0.08254477944096292, 0.3883426547382127],
    ];
}
