package org.taco4j.report;

import freemarker.core.HTMLOutputFormat;
import freemarker.template.Configuration;
import freemarker.template.DefaultObjectWrapperBuilder;
import freemarker.template.Template;
import freemarker.template.TemplateException;
import freemarker.template.TemplateExceptionHandler;
import java.io.IOException;
import java.io.InputStream;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;

/** Fills the templates: {@code *.ftlh} beside this class, in which everything is escaped. */
final class HtmlPages {
  private static final Configuration TEMPLATES = configuration();

  private HtmlPages() {}

  private static Configuration configuration() {
    Configuration configuration = new Configuration(Configuration.VERSION_2_3_34);
    configuration.setClassForTemplateLoading(HtmlPages.class, "");
    configuration.setDefaultEncoding("UTF-8");
    configuration.setOutputFormat(HTMLOutputFormat.INSTANCE);
    configuration.setLocale(Locale.ROOT);
    configuration.setNumberFormat("computer");
    configuration.setTemplateExceptionHandler(TemplateExceptionHandler.RETHROW_HANDLER);
    configuration.setLogTemplateExceptions(false);
    configuration.setFallbackOnNullLoopVariable(false);
    configuration.setObjectWrapper(
        new DefaultObjectWrapperBuilder(Configuration.VERSION_2_3_34).build());
    return configuration;
  }

  /** The page that a template makes of some values; the style sheet is one of them. */
  static String fill(String template, Map<String, Object> values) {
    Map<String, Object> model = new HashMap<>(values);
    model.put("css", resource("report.css") + resource("chart.css"));
    try {
      Template loaded = TEMPLATES.getTemplate(template);
      StringWriter page = new StringWriter();
      loaded.process(model, page);
      return page.toString();
    } catch (IOException | TemplateException e) {
      throw new IllegalStateException(e); // A bug in the template: its input has types.
    }
  }

  /** A chart as a file of its own, with the dark twins of its colours. */
  static String standalone(String svg) {
    int end = svg.indexOf('>') + 1;
    return svg.substring(0, end)
        + "<style>"
        + resource("chart.css").strip()
        + "</style>"
        + svg.substring(end)
        + "\n";
  }

  private static String resource(String name) {
    try (InputStream in = HtmlPages.class.getResourceAsStream(name)) {
      if (in == null) {
        throw new IllegalStateException(name + " is missing in the jar");
      }
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new IllegalStateException(e);
    }
  }
}
