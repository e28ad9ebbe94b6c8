package org.taco4j.runtime;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.util.List;

/** The instruction sets that the operator library has kernels for on this machine. */
public final class InstructionSets {
  private InstructionSets() {}

  /** Best first; what TACO4J_ISA takes. */
  public static List<String> available() {
    SymbolLookup library = SymbolLookup.libraryLookup(OperatorLibrary.file(), Arena.global());
    try {
      MemorySegment names =
          (MemorySegment)
              Linker.nativeLinker()
                  .downcallHandle(
                      library.find("taco4j_available_isas").orElseThrow(),
                      FunctionDescriptor.of(ValueLayout.ADDRESS))
                  .invokeExact();
      return List.of(names.reinterpret(Long.MAX_VALUE).getString(0).split(","));
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }
}
