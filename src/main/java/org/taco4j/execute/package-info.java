/**
 * The ONNX graph on libtorch, node by node, with autograd. {@link org.taco4j.execute.TorchGraph}
 * compiles a model, {@link org.taco4j.execute.Execution} walks it, {@link
 * org.taco4j.execute.OperatorTable} lists the operators, whose implementations are grouped by kind
 * ({@code …Operators}).
 */
@NullMarked
package org.taco4j.execute;

import org.jspecify.annotations.NullMarked;
