package org.taco4j.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.jsoup.Jsoup;
import org.jsoup.nodes.Document;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Pages fit a phone and a desktop, in Chromium: skipped where there is none. */
class BrowserTest {
  @TempDir Path folder;

  private static Optional<Path> chromium() {
    String path = System.getenv().getOrDefault("PATH", "");
    return Stream.of("chromium", "chromium-browser", "google-chrome")
        .flatMap(name -> Stream.of(path.split(File.pathSeparator)).map(dir -> Path.of(dir, name)))
        .filter(Files::isExecutable)
        .findFirst();
  }

  /** Opens a page in frames of both widths, and reads how wide it became and what sticks out. */
  private void assertFits(String name, String html) throws IOException, InterruptedException {
    Optional<Path> chromium = chromium();
    assumeTrue(chromium.isPresent(), "no Chromium on PATH: the width of pages is not checked");
    StringBuilder frames = new StringBuilder("<!DOCTYPE html><meta charset=utf-8>");
    String escaped = html.replace("&", "&amp;").replace("\"", "&quot;");
    for (int width : new int[] {360, 1280}) {
      frames
          .append("<iframe style='border:0;height:600px;width:%dpx' srcdoc=\"".formatted(width))
          .append(escaped)
          .append("\"></iframe>\n");
    }
    frames.append(
        """
        <script>
        window.onload = () => {
          for (const frame of document.querySelectorAll('iframe')) {
            const page = frame.contentDocument.documentElement;
            const at = document.createElement('p');
            at.textContent = page.scrollWidth + ' of ' + frame.clientWidth;
            document.body.append(at);
          }
          document.querySelectorAll('iframe').forEach(frame => frame.remove());
        };
        </script>
        """);
    Path wrapper = folder.resolve(name + ".html");
    Files.writeString(wrapper, frames);
    Path dom = folder.resolve(name + ".dom");
    Process process =
        new ProcessBuilder(
                List.of(
                    chromium.get().toString(),
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--hide-scrollbars",
                    "--window-size=1400,1400",
                    "--virtual-time-budget=5000",
                    "--user-data-dir=" + folder.resolve("profile"),
                    "--dump-dom",
                    wrapper.toUri().toString()))
            .redirectError(ProcessBuilder.Redirect.DISCARD)
            .redirectOutput(dom.toFile())
            .start();
    boolean ended = process.waitFor(60, TimeUnit.SECONDS);
    process.destroyForcibly().waitFor();
    assumeTrue(ended, "Chromium does not answer here: the width of pages is not checked");
    Document result = Jsoup.parse(Files.readString(dom, StandardCharsets.UTF_8));
    List<String> widths = new ArrayList<>(result.select("p").eachText());
    assumeTrue(!widths.isEmpty(), "Chromium shows nothing here: widths are not checked");
    assertEquals(List.of("360 of 360", "1280 of 1280"), widths, name);
  }

  @Test
  void reportsFit() throws IOException, InterruptedException {
    assertFits("few classes", RunPage.of(Reports.full(4), folder));
    assertFits("many classes", RunPage.of(Reports.full(43), folder));
    assertFits("bare", RunPage.of(Reports.bare(), folder));
  }

  @Test
  void overviewsFit() throws IOException, InterruptedException {
    ReportFiles.write(folder.resolve("run"), Reports.full(4));
    Path page = folder.resolve("overview.html");
    Overview.of(List.of(folder.resolve("run"))).write(page, null, null);
    assertTrue(Files.size(page) > 0);
    assertFits("overview", Files.readString(page));
  }
}
