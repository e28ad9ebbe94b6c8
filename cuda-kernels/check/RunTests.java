import static org.junit.platform.engine.discovery.ClassNameFilter.includeClassNamePatterns;

import java.io.PrintWriter;
import java.util.Arrays;
import java.util.List;
import org.junit.platform.engine.DiscoverySelector;
import org.junit.platform.engine.discovery.DiscoverySelectors;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;
import org.junit.platform.launcher.listeners.SummaryGeneratingListener;
import org.junit.platform.launcher.listeners.TestExecutionSummary;

/**
 * Runs the tests of packages or classes without Maven, for verify.sh: GPU machines may have a CUDA
 * toolkit and a Java, and nothing else. Exit codes: 0 where all passed and there was one at least, 1
 * otherwise.
 */
public final class RunTests {
  private RunTests() {}

  public static void main(String[] names) {
    List<? extends DiscoverySelector> selectors =
        Arrays.stream(names)
            .map(
                name ->
                    Character.isUpperCase(name.charAt(name.lastIndexOf('.') + 1))
                        ? DiscoverySelectors.selectClass(name)
                        : DiscoverySelectors.selectPackage(name))
            .toList();
    LauncherDiscoveryRequest request =
        LauncherDiscoveryRequestBuilder.request()
            .selectors(selectors)
            .filters(includeClassNamePatterns(".*Test"))
            .build();
    SummaryGeneratingListener listener = new SummaryGeneratingListener();
    LauncherFactory.create().execute(request, listener);
    TestExecutionSummary summary = listener.getSummary();
    PrintWriter out = new PrintWriter(System.out, true);
    long failures = 0;
    for (TestExecutionSummary.Failure failure : summary.getFailures()) {
      if (isLeftOut(failure.getException())) {
        out.printf(
            "left out, %s is not here: %s%n",
            failure.getException().getMessage(), failure.getTestIdentifier().getDisplayName());
      } else {
        failures++;
        out.printf("FAILED %s%n", failure.getTestIdentifier().getUniqueId());
        failure.getException().printStackTrace(out);
      }
    }
    out.printf(
        "%d tests passed, %d failed, %d skipped, %d left out, in %d s%n",
        summary.getTestsSucceededCount(),
        failures,
        summary.getTestsSkippedCount() + summary.getTestsAbortedCount(),
        summary.getTotalFailureCount() - failures,
        (summary.getTimeFinished() - summary.getTimeStarted()) / 1000);
    System.exit(failures == 0 && summary.getTestsSucceededCount() > 0 ? 0 : 1);
  }

  /** Of whole models: ONNX Runtime and Java's images do not come along with verify.sh. */
  private static boolean isLeftOut(Throwable failure) {
    return failure instanceof NoClassDefFoundError
        && String.valueOf(failure.getMessage()).matches("(java/awt|javax/imageio|ai/onnx).*");
  }
}
