//! The backward pass against candle's, where it has to be careful.

use autodidact_testing::assert_refused;
use candle_core::Tensor;

use super::super::*;
use super::{bits, values, var};
use crate::ops::tape::is_tracked;

/// x is added to itself, goes two ways of which one hands its gradient on as it is, and comes together again.
fn branching(x: &Tensor, w: &Tensor) -> anyhow::Result<Tensor> {
    let doubled = add(x, x)?;
    let through = linear(&doubled, w)?;
    let folded = reshape(&through, &[2 * through.dim(0)?, through.dim(1)? / 2])?;
    let stacked = stack(&[folded.clone(), folded])?;
    let back = reshape(&stacked, &[2 * x.dim(0)?, x.dim(1)?])?;
    let once = add(&back, &stack(&[doubled.clone(), x.clone()])?)?;
    add(&once, &stack(&[x.clone(), doubled])?)
}

#[test]
fn what_is_shared_is_never_added_to() {
    let (x, w) = (var(1, &[3, 4]), var(2, &[4, 4]));
    let store = branching(&x, &w).unwrap().backward().unwrap();
    let (output, backward) = record(&w, || branching(&x, &w)).unwrap();
    let mut gradients = backward.run(&output, output.ones_like().unwrap()).unwrap();
    for var in [&x, &w] {
        let gradient = gradients.take(var).unwrap();
        assert_eq!(bits(&values(&gradient)), bits(&values(store.get(var).unwrap())));
        assert!(gradients.take(var).is_none(), "a gradient is handed out once");
    }
}

#[test]
fn a_pass_within_a_pass_is_its_own() {
    let (x, w) = (var(1, &[3, 4]), var(2, &[4, 4]));
    let alone = {
        let (y, backward) = record(&x, || linear(&x, &w)).unwrap();
        values(&backward.run(&y, y.ones_like().unwrap()).unwrap().take(&w).unwrap())
    };
    let (y, backward) = record(&x, || {
        let first = linear(&x, &w)?;
        let (inner, inner_back) = record(&x, || linear(&x, &w))?;
        let inner = inner_back.run(&inner, inner.ones_like()?)?.take(&w).unwrap();
        assert_eq!(bits(&values(&inner)), bits(&alone));
        add(&first, &first)
    })
    .unwrap();
    let gradient = backward.run(&y, y.ones_like().unwrap()).unwrap().take(&w).unwrap();
    let twice: Vec<f32> = alone.iter().map(|g| 2.0 * g).collect();
    assert_eq!(bits(&values(&gradient)), bits(&twice));
}

#[test]
fn parts_of_a_stack_get_their_own_rows() {
    for rows in [&[2, 3, 1][..], &[4]] {
        let parts: Vec<_> = rows.iter().map(|&n| var(n as u64, &[n, 4])).collect();
        let w = var(9, &[3, 4]);
        // Twice, so that gradients come together.
        let pass = || {
            let parts: Vec<Tensor> = parts.iter().map(|part| part.as_tensor().clone()).collect();
            add(&linear(&stack(&parts)?, &w)?, &linear(&stack(&parts)?, &w)?)
        };
        let store = pass().unwrap().backward().unwrap();
        let (output, backward) = record(&w, pass).unwrap();
        let mut gradients = backward.run(&output, output.ones_like().unwrap()).unwrap();
        for part in &parts {
            let gradient = gradients.take(part).unwrap();
            assert_eq!(gradient.dims(), part.dims());
            assert_eq!(bits(&values(&gradient)), bits(&values(store.get(part).unwrap())));
        }
    }
}

#[test]
fn a_pass_that_is_forgotten_leaves_the_one_around_it_alone() {
    let (x, w) = (var(1, &[3, 4]), var(2, &[4, 4]));
    let pass = |forgotten: bool| {
        let (y, backward) = record(&x, || {
            if forgotten {
                let y = without_record(|| linear(&x, &w))?;
                assert!(!is_tracked(&y));
            }
            linear(&x, &w)
        })
        .unwrap();
        values(&backward.run(&y, y.ones_like().unwrap()).unwrap().take(&w).unwrap())
    };
    assert_eq!(bits(&pass(true)), bits(&pass(false)));
}

#[test]
fn a_failed_pass_leaves_nothing_behind() {
    let (x, w) = (var(1, &[3, 4]), var(2, &[5, 6]));
    assert_refused(record(&x, || linear(&x, &w)), "x has 4 columns and w is (5, 6)");
    let y = linear(&x, &var(3, &[2, 4])).unwrap();
    assert!(y.track_op() && is_tracked(&y), "candle's graph again");
}

#[test]
fn a_copy_that_would_cut_the_way_back_is_refused() {
    let (x, w) = (var(1, &[6, 4]), var(2, &[5, 6]));
    let refused = record(&x, || linear(&x.t()?, &w)).map(|_| ());
    assert!(refused.unwrap_err().to_string().contains("strided"));
}
