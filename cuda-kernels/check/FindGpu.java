import org.taco4j.compute.cuda.CudaProbe;

/**
 * Says in one line whether the CUDA backend can be had, for verify.sh. Exit codes: 0 where it can, 7
 * with the reason otherwise.
 */
public final class FindGpu {
  private FindGpu() {}

  public static void main(String[] arguments) {
    CudaProbe.Findings found = CudaProbe.examine();
    if (found.obstacle().isEmpty()) {
      return;
    }
    System.err.println("verify.sh: " + found.obstacle());
    System.exit(7);
  }
}
