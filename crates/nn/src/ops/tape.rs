//! The backward pass of a recorded forward pass of these operators on the CPU.
//!
//! candle's own backward pass gives every edge of its graph a gradient of zeros and adds to that in new memory, which
//! took a seventh of an update of a small model; and it keeps every activation to the end. Here operators that run in
//! [`record`] bypass candle's graph and are recorded instead. Going back, an edge's first gradient is moved,
//! later ones are added to it in place, and an operator's arguments are let go when its turn is over.
//!
//! Contract: operators come in the opposite of the order in which they ran, and an edge adds its terms in that order.
//! Without branches, such as a mixture's experts, that is candle's order too, and gives its bits. Only operators of this
//! room are recorded. On other devices nothing is, and candle goes back.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use anyhow::{Result, ensure};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, InplaceOp2, Layout, Tensor, TensorId};

use super::kernels::add;
use super::tensor::{Candle, elements, is_elsewhere};

thread_local! {
    /// What runs on this thread, innermost last: a thread that waits for others within a pass may begin another one.
    static TAPES: RefCell<Vec<Tape>> = const { RefCell::new(Vec::new()) };
}

/// What ran, and which of its results depend on something that wants a gradient.
#[derive(Default)]
struct Tape {
    nodes: Vec<Node>,
    tracked: HashSet<TensorId>,
    /// Nothing is written down.
    forgets: bool,
}

/// An operator that ran.
struct Node {
    operator: Recorded,
    output: Tensor,
}

enum Recorded {
    One(Box<dyn CustomOp1>, Tensor),
    Two(Box<dyn CustomOp2>, [Tensor; 2]),
    Three(Box<dyn CustomOp3>, [Tensor; 3]),
    /// Another shape of the same elements.
    Reshape(Tensor),
    /// Rows below one another.
    Stack(Vec<Tensor>),
}

/// The backward pass of a recorded forward pass; it runs once.
pub struct Backward(Option<Tape>);

/// Ends the innermost recording, however its work ended.
struct Recording;

impl Recording {
    fn of(tape: Tape) -> Self {
        TAPES.with_borrow_mut(|tapes| tapes.push(tape));
        Self
    }

    fn end(self) -> Tape {
        std::mem::forget(self);
        TAPES.with_borrow_mut(|tapes| tapes.pop()).unwrap_or_default()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        TAPES.with_borrow_mut(|tapes| tapes.pop());
    }
}

/// Runs a forward pass over parameters that lie where `parameter` does; returns its result and the backward pass.
pub fn record<T>(parameter: &Tensor, forward: impl FnOnce() -> Result<T>) -> Result<(T, Backward)> {
    if is_elsewhere(parameter) {
        return Ok((forward()?, Backward(None)));
    }
    let recording = Recording::of(Tape::default());
    let result = forward()?;
    Ok((result, Backward(Some(recording.end()))))
}

/// Runs a forward pass that nobody goes back through: it keeps nothing.
pub fn without_record<T>(forward: impl FnOnce() -> Result<T>) -> Result<T> {
    let recording = Recording::of(Tape { forgets: true, ..Tape::default() });
    let result = forward()?;
    recording.end();
    Ok(result)
}

impl Backward {
    /// Gradients of everything that wants one, given that of `output`.
    pub fn run(self, output: &Tensor, gradient: Tensor) -> Result<Gradients> {
        let mut sums = Sums::default();
        let Some(tape) = self.0 else {
            return Ok(Gradients(match output.track_op() {
                true => Found::Candle((output * gradient)?.backward()?),
                false => Found::Sums(sums),
            }));
        };
        let Tape { nodes, tracked, .. } = tape;
        // Operators ask whether an argument is tracked.
        let _recording = Recording::of(Tape { tracked, forgets: true, ..Tape::default() });
        sums.add(output, gradient, false)?;
        for node in nodes.into_iter().rev() {
            if let Some(sum) = sums.0.remove(&node.output.id()) {
                node.backward(&sum.tensor, &mut sums)?;
            }
        }
        Ok(Gradients(Found::Sums(sums)))
    }
}

/// Gradients by tensor.
pub struct Gradients(Found);

enum Found {
    Sums(Sums),
    Candle(GradStore),
}

impl Gradients {
    /// Hands out a tensor's gradient, if any reached it.
    pub fn take(&mut self, tensor: &Tensor) -> Option<Tensor> {
        match &mut self.0 {
            Found::Sums(sums) => sums.0.remove(&tensor.id()).map(|sum| sum.tensor),
            Found::Candle(store) => store.remove(tensor),
        }
    }
}

/// What has come together for each tensor so far.
#[derive(Default)]
struct Sums(HashMap<TensorId, Sum>);

struct Sum {
    tensor: Tensor,
    /// Whether nobody else reads its elements.
    is_own: bool,
}

impl Sums {
    /// What an operator gives an argument, whose output has the gradient `dy`: one that passes its gradient on hands
    /// out the tensor itself.
    fn take(&mut self, to: &Tensor, gradient: Option<Tensor>, dy: &Tensor) -> Candle<()> {
        let Some(gradient) = gradient else { return Ok(()) };
        let is_own = gradient.id() != dy.id();
        self.add(to, gradient, is_own)
    }

    fn add(&mut self, to: &Tensor, gradient: Tensor, is_own: bool) -> Candle<()> {
        if !is_tracked(to) {
            return Ok(());
        }
        let Some(sum) = self.0.get_mut(&to.id()) else {
            self.0.insert(to.id(), Sum { tensor: gradient, is_own });
            return Ok(());
        };
        if sum.is_own {
            return sum.tensor.inplace_op2(&gradient, &AddTo);
        }
        // candle's `copy` would take along what a view leaves out.
        let own = if is_own { gradient } else { gradient.force_contiguous()? };
        own.inplace_op2(&sum.tensor, &AddTo)?;
        *sum = Sum { tensor: own, is_own: true };
        Ok(())
    }
}

impl Node {
    fn backward(&self, dy: &Tensor, sums: &mut Sums) -> Candle<()> {
        match &self.operator {
            Recorded::One(operator, x) => sums.take(x, operator.bwd(x, &self.output, dy)?, dy),
            Recorded::Two(operator, [a, b]) => {
                let (da, db) = operator.bwd(a, b, &self.output, dy)?;
                sums.take(a, da, dy)?;
                sums.take(b, db, dy)
            }
            Recorded::Three(operator, [a, b, c]) => {
                let (da, db, dc) = operator.bwd(a, b, c, &self.output, dy)?;
                sums.take(a, da, dy)?;
                sums.take(b, db, dy)?;
                sums.take(c, dc, dy)
            }
            // Views of what others may read, too.
            Recorded::Reshape(x) => sums.add(x, dy.reshape(x.shape())?, false),
            Recorded::Stack(parts) => {
                let mut first = 0;
                for part in parts {
                    let rows = part.dim(0)?;
                    sums.add(part, dy.narrow(0, first, rows)?, false)?;
                    first += rows;
                }
                Ok(())
            }
        }
    }
}

/// `a += b`, element by element.
struct AddTo;

impl InplaceOp2 for AddTo {
    fn name(&self) -> &'static str {
        "add_to"
    }

    fn cpu_fwd(&self, a: &mut CpuStorage, la: &Layout, b: &CpuStorage, lb: &Layout) -> Candle<()> {
        let Some((from, to)) = la.contiguous_offsets() else {
            candle_core::bail!("a strided gradient can't be added to");
        };
        let b = elements(b, lb)?;
        let CpuStorage::F32(a) = a else { candle_core::bail!("a gradient that isn't f32") };
        add(&mut a[from..to], b);
        Ok(())
    }
}

/// Whether somebody wants the gradient of `t`.
pub(super) fn is_tracked(t: &Tensor) -> bool {
    t.track_op() || TAPES.with_borrow(|tapes| tapes.last().is_some_and(|tape| tape.tracked.contains(&t.id())))
}

/// Whether operators are being recorded. What they don't do themselves would cut the backward pass.
pub(super) fn is_recording() -> bool {
    TAPES.with_borrow(|tapes| tapes.last().is_some_and(|tape| !tape.forgets))
}

/// Whether candle's graph is bypassed.
fn is_taped() -> bool {
    TAPES.with_borrow(|tapes| !tapes.is_empty())
}

/// Writes down what gave `output`, if one of its arguments is tracked.
fn write_down(output: Tensor, arguments: &[&Tensor], operator: impl FnOnce() -> Recorded) -> Tensor {
    if arguments.iter().any(|t| is_tracked(t)) {
        TAPES.with_borrow_mut(|tapes| {
            if let Some(tape) = tapes.last_mut().filter(|tape| !tape.forgets) {
                tape.tracked.insert(output.id());
                tape.nodes.push(Node { operator: operator(), output: output.clone() });
            }
        });
    }
    output
}

/// Runs an operator of one argument.
pub(super) fn apply_1(x: &Tensor, operator: impl CustomOp1 + Send + Sync + 'static) -> Candle<Tensor> {
    if !is_taped() {
        return x.apply_op1(operator);
    }
    let y = x.apply_op1_no_bwd(&operator)?;
    Ok(write_down(y, &[x], || Recorded::One(Box::new(operator), x.clone())))
}

/// Runs an operator of two arguments.
pub(super) fn apply_2(
    a: &Tensor,
    b: &Tensor,
    operator: impl CustomOp2 + Send + Sync + 'static,
) -> Candle<Tensor> {
    if !is_taped() {
        return a.apply_op2(b, operator);
    }
    let y = a.apply_op2_no_bwd(b, &operator)?;
    Ok(write_down(y, &[a, b], || Recorded::Two(Box::new(operator), [a.clone(), b.clone()])))
}

/// Runs an operator of three arguments.
pub(super) fn apply_3(
    [a, b, c]: [&Tensor; 3],
    operator: impl CustomOp3 + Send + Sync + 'static,
) -> Candle<Tensor> {
    if !is_taped() {
        return a.apply_op3(b, c, operator);
    }
    let y = a.apply_op3_no_bwd(b, c, &operator)?;
    let arguments = [a, b, c];
    Ok(write_down(y, &arguments, || Recorded::Three(Box::new(operator), arguments.map(Tensor::clone))))
}

/// x in another shape of as many elements.
pub fn reshape(x: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let y = x.reshape(dims)?;
    if !is_recording() {
        return Ok(y);
    }
    ensure!(x.is_contiguous(), "reshape: a strided tensor in a recorded pass");
    Ok(write_down(y, &[x], || Recorded::Reshape(x.clone())))
}

/// The rows of all `parts` below one another.
pub fn stack(parts: &[Tensor]) -> Result<Tensor> {
    let y = Tensor::cat(parts, 0)?;
    if !is_recording() {
        return Ok(y);
    }
    let arguments: Vec<&Tensor> = parts.iter().collect();
    Ok(write_down(y, &arguments, || Recorded::Stack(parts.to_vec())))
}
