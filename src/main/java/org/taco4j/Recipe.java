package org.taco4j;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonPointer;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonMappingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.exc.InvalidFormatException;
import com.fasterxml.jackson.databind.exc.MismatchedInputException;
import com.fasterxml.jackson.databind.exc.UnrecognizedPropertyException;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.dataformat.yaml.YAMLFactory;
import com.fasterxml.jackson.dataformat.yaml.YAMLGenerator;
import java.io.IOException;
import java.nio.charset.MalformedInputException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Suggestions;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.solve.Damping;
import org.taco4j.solve.Pattern;
import org.taco4j.solve.Precision;
import org.taco4j.solve.Quantization;
import org.taco4j.solve.Refit;
import org.taco4j.solve.Search;
import org.taco4j.solve.SolverOptions;
import org.taco4j.solve.Solvers;

/**
 * What to do, in the words of the command line: each component is the option of the same name, in
 * kebab case. What is null is not said; {@link #resolved} fills in the defaults. A recipe is read
 * from and written to YAML.
 *
 * @param recipe a preset ({@link Recipes#names}) or a recipe file that this one goes before
 * @param model the dense ONNX file
 * @param data image folders of the task
 * @param classes folder or display names of the classes to keep; all of the folders where null
 * @param labels a file that says which output of the model is which class
 * @param shots calibration images per class; 0 is all there are
 * @param heldOut {@code auto}, {@code none} or a number per class: images on which layer errors are
 *     measured and nothing is fitted
 * @param testFraction fraction of each class that is set aside for the test where there is no test
 *     folder
 * @param seed of everything random
 * @param preset name of a preprocessing preset
 * @param mean per channel, of values in 0..1
 * @param std per channel, of values in 0..1
 * @param resize short side, or width x height, or {@code none}
 * @param crop side, or width x height
 * @param filter resampling filter
 * @param channelOrder {@code rgb} or {@code bgr}
 * @param layout {@code nchw} or {@code nhwc}
 * @param features a node behind which the model is cut and gets a new classifier for the folders of
 *     the task, in alphabetical order
 * @param finetunePasses over the calibration images, with the task loss, that the dense model gets
 *     before anything else; 0 for none
 * @param finetuneRate the learning rate of that at the start
 * @param sparsity fraction of the weights to remove
 * @param pattern what is removed: {@code unstructured:0.8}, {@code 2:4}, {@code block4:0.8}, or
 *     without the fraction, which {@code sparsity} then gives
 * @param misfit {@code error} or {@code dense}: what becomes of layers whose input channels the
 *     groups of the pattern do not divide
 * @param structured fraction of the units of each hidden dimension to remove
 * @param structures which hidden dimensions: {@code mlp}, {@code channels}, {@code heads}
 * @param classifier {@code auto} (the last layer stays dense where it holds few of the weights),
 *     {@code dense} or {@code prune}
 * @param include globs over layer names: only these are pruned
 * @param exclude globs over layer names: these are left dense
 * @param layers what is different for some layers; the first rule that matches counts
 * @param schedule {@code one-shot}, {@code gradual} (half of what remains at a time, tuned
 *     between), {@code gmp} (the same by magnitude) or {@code lth} (the same with the weights that
 *     stay taken back to the dense model's)
 * @param scheduleSteps in how many steps, each leaving the same part of the weights; where null a
 *     half at a time
 * @param solver name of the layer solver
 * @param damping λ, relative to the mean of the Hessian's diagonal, or {@code auto}
 * @param search {@code none}, {@code swap} or {@code full}: the local search after the solver
 * @param timeBudget seconds of wall time for solving and searching
 * @param refit {@code ls} or {@code adam}: how AdaPrune fits the weights that stay
 * @param precision {@code auto}, {@code float32} or {@code float64}: of OBC's elimination
 * @param bits of a weight, 2 to 8, where weights are quantised; null where they stay float
 * @param actOrder whether columns are quantised in the order of falling energy of their inputs
 * @param sweeps of coordinate descent over quantised weights
 * @param activationBits 8 where activations are quantised too, so that layers multiply integers;
 *     null where they stay float
 * @param activationRange {@code minmax}, {@code percentile} or {@code mse}: how the range of an
 *     activation follows from the calibration images; or {@code auto}, the best of them
 * @param reconstruct {@code sequential} (each layer on what the compressed layers before it give,
 *     towards the dense outputs) or {@code layerwise} (each layer on its own)
 * @param correct {@code mean-variance} or {@code none}: the channel correction after layer-wise
 *     solving
 * @param tune {@code none}, {@code probe}, {@code taco-v1} or {@code taco-tmlr}: what is trained
 *     after compression
 * @param tunePasses over the calibration images
 * @param tuneRate the learning rate at the start
 * @param tuneHoldOut {@code auto} (a quarter of the calibration images decides how long to tune, if
 *     at all, where there are enough) or {@code none} (all passes are done)
 * @param tuneCrop least part of an image's area that random crops keep
 * @param comparePtc a folder of generic images, on which a second copy is compressed to compare
 * @param runtime {@code onnxruntime}, or {@code taco4j}: ONNX Runtime with the operator library,
 *     for which layers become sparse operators where those are faster on this machine; or {@code
 *     tensorrt}: the form that NVIDIA's TensorRT takes
 * @param packWeights whether the file keeps only weights that are not zero, which a runtime unpacks
 *     when it loads the model
 * @param threads to compute with
 * @param memory for Gram matrices, and for activations that are kept, such as {@code 4g}
 * @param backend {@code auto}, {@code scalar}, {@code simd} or {@code cuda}
 * @param gpuMemory of each GPU that {@code cuda} may use, such as {@code 8g}
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record Recipe(
    @Nullable String recipe,
    @Nullable String model,
    @Nullable List<String> data,
    @Nullable List<String> classes,
    @Nullable String labels,
    @Nullable Integer shots,
    @Nullable String heldOut,
    @Nullable Double testFraction,
    @Nullable Long seed,
    @Nullable String preset,
    @Nullable String mean,
    @Nullable String std,
    @Nullable String resize,
    @Nullable String crop,
    @Nullable String filter,
    @Nullable String channelOrder,
    @Nullable String layout,
    @Nullable String features,
    @Nullable Integer finetunePasses,
    @Nullable Double finetuneRate,
    @Nullable Double sparsity,
    @Nullable String pattern,
    @Nullable String misfit,
    @Nullable Double structured,
    @Nullable List<String> structures,
    @Nullable String classifier,
    @Nullable List<String> include,
    @Nullable List<String> exclude,
    @Nullable List<LayerRule> layers,
    @Nullable String schedule,
    @Nullable Integer scheduleSteps,
    @Nullable String solver,
    @Nullable String damping,
    @Nullable String search,
    @Nullable Double timeBudget,
    @Nullable String refit,
    @Nullable String precision,
    @Nullable Integer bits,
    @Nullable Boolean actOrder,
    @Nullable Integer sweeps,
    @Nullable Integer activationBits,
    @Nullable String activationRange,
    @Nullable String reconstruct,
    @Nullable String correct,
    @Nullable String tune,
    @Nullable Integer tunePasses,
    @Nullable Double tuneRate,
    @Nullable String tuneHoldOut,
    @Nullable Double tuneCrop,
    @Nullable String comparePtc,
    @Nullable String runtime,
    @Nullable Boolean packWeights,
    @Nullable Integer threads,
    @Nullable String memory,
    @Nullable String backend,
    @Nullable String gpuMemory) {

  /**
   * What is different for the layers whose name matches.
   *
   * @param match a glob over layer names
   * @param sparsity fraction of the weights to remove
   * @param pattern as {@link Recipe#pattern}
   * @param solver as {@link Recipe#solver}
   */
  @JsonInclude(JsonInclude.Include.NON_NULL)
  public record LayerRule(
      @Nullable String match,
      @Nullable Double sparsity,
      @Nullable String pattern,
      @Nullable String solver) {

    /** The glob. */
    Glob glob() {
      if (match == null) {
        throw TacoException.usage("a rule of 'layers' has no 'match': say which layers it is for");
      }
      return new Glob(match);
    }

    /** Throws an exception of kind USAGE for what cannot be meant. */
    private void check(Pattern general, SolverOptions options) {
      glob();
      if (solver != null) {
        Solvers.create(solver, options);
      }
      patternOf(pattern, sparsity, general);
    }
  }

  private static final String SEQUENTIAL = "sequential";
  private static final String LAYERWISE = "layerwise";

  private static final ObjectMapper YAML =
      new ObjectMapper(
              YAMLFactory.builder()
                  .disable(YAMLGenerator.Feature.WRITE_DOC_START_MARKER)
                  .enable(YAMLGenerator.Feature.MINIMIZE_QUOTES)
                  .build())
          .setPropertyNamingStrategy(PropertyNamingStrategies.KEBAB_CASE)
          .enable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
          .enable(JsonParser.Feature.STRICT_DUPLICATE_DETECTION);

  /** The key of a specialist's metadata under which {@link #forProvenance} stands. */
  static final String METADATA_KEY = "taco4j.recipe";

  /** A recipe that says nothing. */
  public static Recipe empty() {
    return YAML.convertValue(Map.of(), Recipe.class);
  }

  /** This recipe with one component said, by its YAML name. */
  Recipe with(String name, Object value) {
    return overlaidWith(YAML.convertValue(Map.of(name, value), Recipe.class));
  }

  /** The defaults, for what {@link #resolved} finds unsaid. */
  static Recipe defaults() {
    return YAML.convertValue(
        Map.ofEntries(
            Map.entry("shots", 0),
            Map.entry("held-out", "auto"),
            Map.entry("test-fraction", 0.3),
            Map.entry("solver", Solvers.DEFAULT),
            Map.entry("damping", String.valueOf(Damping.USUAL)),
            Map.entry("search", "none"),
            Map.entry("time-budget", SolverOptions.defaults().timeBudget()),
            Map.entry("refit", "ls"),
            Map.entry("precision", "auto"),
            Map.entry("misfit", "error"),
            Map.entry("tune", "none"),
            Map.entry("classifier", "auto"),
            Map.entry("tune-hold-out", "auto"),
            Map.entry("schedule", Schedule.ONE_SHOT),
            Map.entry("finetune-passes", 0),
            Map.entry("runtime", SparseRuntime.ONNX_RUNTIME),
            Map.entry("pack-weights", false),
            Map.entry("seed", 0L),
            Map.entry("threads", Runtime.getRuntime().availableProcessors()),
            Map.entry("backend", "auto")),
        Recipe.class);
  }

  /**
   * Reads a recipe from YAML.
   *
   * @throws TacoException of kind USAGE for a file that is missing or no recipe, naming the line
   *     and the key
   */
  public static Recipe read(Path file) {
    try {
      return parse(file.toString(), Files.readString(file));
    } catch (MalformedInputException e) {
      throw new TacoException(
          TacoException.Kind.USAGE,
          file + ": no recipe: it is not text in UTF-8; a recipe is YAML, such as `sparsity: 0.7`",
          e);
    } catch (IOException e) {
      throw new TacoException(
          TacoException.Kind.USAGE, file + ": the recipe cannot be read: " + e, e);
    }
  }

  /**
   * A recipe from YAML.
   *
   * @param source names the text in messages
   */
  static Recipe parse(String source, String yaml) {
    try {
      return parse(yaml);
    } catch (UnrecognizedPropertyException e) {
      List<String> known =
          e.getKnownPropertyIds() == null
              ? List.of()
              : e.getKnownPropertyIds().stream().map(String::valueOf).sorted().toList();
      String key = e.getPropertyName();
      throw new TacoException(
          TacoException.Kind.USAGE,
          source
              + lineOf(yaml, e)
              + ": there is no key '"
              + pathOf(e)
              + "'"
              + Suggestions.didYouMean(key, known)
              + "; there are: "
              + String.join(", ", known),
          e);
    } catch (JsonMappingException e) {
      throw new TacoException(
          TacoException.Kind.USAGE, source + lineOf(yaml, e) + ": " + wrongValue(e), e);
    } catch (JsonProcessingException e) {
      throw new TacoException(
          TacoException.Kind.USAGE,
          source
              + lineOf(e)
              + ": no recipe, which is YAML with a key on each line, such as `sparsity: 0.7`: "
              + e.getOriginalMessage().lines().findFirst().orElse(""),
          e);
    }
  }

  private static Recipe parse(String yaml) throws JsonProcessingException {
    JsonNode tree = YAML.readTree(yaml);
    return tree == null || tree.isMissingNode() || tree.isNull()
        ? empty()
        : YAML.readValue(yaml, Recipe.class);
  }

  /** The key, and the value that it cannot have. */
  private static String wrongValue(JsonMappingException e) {
    if (e.getPath().isEmpty()) {
      return "no recipe, which is YAML with a key on each line, such as `sparsity: 0.7`";
    }
    if (!(e instanceof MismatchedInputException mismatch) || mismatch.getTargetType() == null) {
      return "'" + pathOf(e) + "': " + e.getOriginalMessage();
    }
    Class<?> type = mismatch.getTargetType();
    String wanted =
        type == Integer.class || type == Long.class
            ? "a whole number"
            : type == Double.class
                ? "a number"
                : type == Boolean.class
                    ? "true or false"
                    : type == String.class
                        ? "one text"
                        : type == LayerRule.class
                            ? "a rule such as {match: \"*conv1*\", sparsity: 0.3}"
                            : "a list, with a dash before each item";
    Object value = e instanceof InvalidFormatException format ? format.getValue() : null;
    return "'" + pathOf(e) + "' takes " + wanted + (value == null ? "" : ", not '" + value + "'");
  }

  /** Where in the recipe: {@code layers[1].sparsity}. */
  private static String pathOf(JsonMappingException e) {
    StringBuilder path = new StringBuilder();
    for (JsonMappingException.Reference step : e.getPath()) {
      if (step.getFieldName() == null) {
        path.append('[').append(step.getIndex()).append(']');
      } else {
        path.append(path.isEmpty() ? "" : ".").append(step.getFieldName());
      }
    }
    return path.toString();
  }

  /** The line of the key that an exception is about. Jackson knows where it stopped reading. */
  private static String lineOf(String yaml, JsonMappingException e) {
    JsonPointer wanted = JsonPointer.empty();
    for (JsonMappingException.Reference step : e.getPath()) {
      wanted =
          step.getFieldName() == null
              ? wanted.appendIndex(step.getIndex())
              : wanted.appendProperty(step.getFieldName());
    }
    try (JsonParser parser = YAML.createParser(yaml)) {
      while (parser.nextToken() != null) {
        if (parser.currentToken() != JsonToken.END_OBJECT
            && parser.currentToken() != JsonToken.END_ARRAY
            && parser.getParsingContext().pathAsPointer().equals(wanted)
            && !wanted.matches()) {
          return ", line " + parser.currentTokenLocation().getLineNr();
        }
      }
    } catch (IOException unreadable) {
      // The line is a courtesy; what is wrong is said all the same.
      return lineOf(e);
    }
    return lineOf(e);
  }

  private static String lineOf(JsonProcessingException e) {
    return e.getLocation() == null || e.getLocation().getLineNr() < 1
        ? ""
        : ", line " + e.getLocation().getLineNr();
  }

  /**
   * What the metadata of a specialist says of how it was made; empty for other models.
   *
   * @throws TacoException of kind MODEL when it is damaged
   */
  static Optional<Recipe> ofSpecialist(OnnxModel model) {
    String yaml = model.metadata().get(METADATA_KEY);
    if (yaml == null) {
      return Optional.empty();
    }
    try {
      return Optional.of(parse(yaml));
    } catch (JsonProcessingException e) {
      throw new TacoException(
          TacoException.Kind.MODEL,
          model.source() + ": metadata " + METADATA_KEY + " is damaged: " + e.getOriginalMessage(),
          e);
    }
  }

  /** This recipe as YAML: its stages in order, each under a comment that names it. */
  public String toYaml() {
    ObjectNode tree = YAML.valueToTree(this);
    StringBuilder text = new StringBuilder();
    for (RecipeStage stage : RecipeStage.values()) {
      ObjectNode part = YAML.createObjectNode();
      for (String key : stage.keys()) {
        if (tree.has(key)) {
          part.set(key, tree.get(key));
        }
      }
      if (!part.isEmpty()) {
        text.append(text.isEmpty() ? "" : "\n").append("# ").append(stage.title()).append('\n');
        try {
          text.append(YAML.writeValueAsString(part));
        } catch (JsonProcessingException e) {
          throw new IllegalStateException(e);
        }
      }
    }
    return text.toString();
  }

  /** This recipe as plain values, for a report. */
  public Map<String, Object> toMap() {
    return YAML.convertValue(
        this, new com.fasterxml.jackson.core.type.TypeReference<Map<String, Object>>() {});
  }

  /** This recipe, with what {@code other} says in place of what this one says. */
  public Recipe overlaidWith(Recipe other) {
    ObjectNode merged = YAML.valueToTree(this);
    merged.setAll(YAML.<ObjectNode>valueToTree(other));
    // A pattern with its fraction and a sparsity are two answers to one question: the later counts.
    if (other.pattern != null && other.sparsity == null && !isBare(other.pattern)) {
      merged.remove("sparsity");
    }
    if (other.sparsity != null && other.pattern == null && pattern != null) {
      merged.put(
          "pattern",
          pattern
              .replaceFirst("^((?:block|rows)\\d+):.*$", "$1")
              .replaceFirst("^columns:[.\\d]+(?=$|:)", "columns")
              .replaceFirst("^(unstructured:)?[.\\d]+$", "unstructured"));
    }
    if (tune != null && other.tune != null && !other.tune.equals(tune)) {
      // Numbers that were given for one method are none for another.
      ObjectNode said = YAML.valueToTree(other);
      for (String number : List.of("tune-passes", "tune-rate", "tune-crop")) {
        if (!said.has(number)) {
          merged.remove(number);
        }
      }
    }
    if (other.backend != null && other.gpuMemory == null && !other.backend.equals(backend)) {
      merged.remove("gpu-memory");
    }
    return YAML.convertValue(merged, Recipe.class);
  }

  /**
   * This recipe with the defaults filled in and the sparsity made part of the pattern.
   *
   * @throws TacoException of kind USAGE when the model, the data or the sparsity is not said, or a
   *     value cannot be meant
   */
  public Recipe resolved() {
    if (recipe != null) {
      return overItsBase(new LinkedHashSet<>()).resolved();
    }
    if (model == null) {
      throw TacoException.usage(
          "no model: name the dense ONNX file, as in `taco specialize model.onnx --data images"
              + " --sparsity 0.6 --out specialist`");
    }
    if (data == null || data.isEmpty()) {
      throw TacoException.usage(
          "no images: name the task's image folder, which has a folder for each class, with --data");
    }
    Recipe full = Schedule.defaults(this).overlaidWith(this);
    full = Tuning.defaults(full).overlaidWith(full);
    if (full.bits != null) {
      full = empty().with("act-order", false).with("sweeps", 0).overlaidWith(full);
    }
    full = IntegerActivations.defaults(full).overlaidWith(full);
    if (full.structured != null) {
      full = empty().with("structures", StructuredPruning.USUAL_KINDS).overlaidWith(full);
    }
    if (full.shots != null && full.shots < 0) {
      throw TacoException.usage("--shots must not be negative, it is " + full.shots);
    }
    if (full.testFraction != null && !(full.testFraction > 0 && full.testFraction < 1)) {
      throw TacoException.usage(
          "--test-fraction must be above 0 and below 1, it is " + full.testFraction);
    }
    Damping.parse(require(full.damping));
    if (full.threads != null && full.threads < 1) {
      throw TacoException.usage("--threads must be at least 1, it is " + full.threads);
    }
    if (full.memory != null) {
      MemorySize.parse(full.memory, "--memory");
    }
    full.gpuMemoryBytes();
    SolverOptions solverOptions = full.solverOptions();
    Solvers.create(java.util.Objects.requireNonNull(full.solver), solverOptions);
    String how =
        full.reconstruct != null
            ? full.reconstruct
            : require(full.solver).equals(Solvers.DEFAULT) ? SEQUENTIAL : LAYERWISE;
    if (!List.of(SEQUENTIAL, LAYERWISE).contains(how)) {
      throw TacoException.usage(
          "--reconstruct is sequential or layerwise, not '"
              + how
              + "'"
              + Suggestions.didYouMean(how, List.of(SEQUENTIAL, LAYERWISE)));
    }
    if (full.correct != null && !List.of("mean-variance", "none").contains(full.correct)) {
      throw TacoException.usage("--correct is mean-variance or none, not '" + full.correct + "'");
    }
    if (how.equals(SEQUENTIAL) && full.correct != null && !full.correct.equals("none")) {
      throw TacoException.usage(
          "--correct "
              + full.correct
              + " is for --reconstruct layerwise; the sequential form fits each layer's outputs"
              + " itself");
    }
    SparseRuntime.check(require(full.runtime));
    if (SparseRuntime.TACO4J.equals(full.runtime)
        && full.bits != null
        && full.activationBits == null) {
      throw TacoException.usage(
          "--runtime taco4j has no operators for 8-bit weights and float activations, and ONNX Runtime"
              + " dequantises such weights at every run; add --activation-bits 8, or leave out --bits");
    }
    TensorRtExport.check(full);
    Transfer.check(full);
    Tuning.check(full);
    IntegerActivations.check(full);
    if (!List.of("auto", "dense", "prune").contains(require(full.classifier))) {
      throw TacoException.usage(
          "--classifier is auto, dense or prune, not '" + full.classifier + "'");
    }
    boolean onlyOtherwiseCompressed =
        sparsity == null && pattern == null && (structured != null || bits != null);
    Pattern general =
        onlyOtherwiseCompressed ? new Pattern.Unstructured(0) : patternOf(pattern, sparsity, null);
    if (!List.of("error", "dense").contains(require(full.misfit))) {
      throw TacoException.usage("--misfit is error or dense, not '" + full.misfit + "'");
    }
    if (structures != null && structured == null) {
      throw TacoException.usage("--structures is for --structured, which is not given");
    }
    refuseUnusedOptions(full);
    if (structured != null && !(structured > 0 && structured < 1)) {
      throw TacoException.usage("--structured must be above 0 and below 1, it is " + structured);
    }
    for (LayerRule rule : full.layers == null ? List.<LayerRule>of() : full.layers) {
      rule.check(general, solverOptions);
    }
    ObjectNode tree = YAML.valueToTree(full);
    tree.put("pattern", general.toString());
    tree.put("reconstruct", how);
    if (full.correct == null) {
      tree.put("correct", how.equals(SEQUENTIAL) ? "none" : "mean-variance");
    }
    tree.remove("sparsity");
    Recipe complete = YAML.convertValue(tree, Recipe.class);
    Schedule.check(complete);
    if (solverOptions.search() != Search.NONE && complete.prunesUnitsOnly()) {
      throw TacoException.usage(
          "--search swaps single weights, and --structured alone removes whole units; give a"
              + " --sparsity too, or no search");
    }
    return complete;
  }

  /**
   * This recipe over the one that it builds on, and that over its own.
   *
   * @param seen names on the way here, which must not come again
   */
  private Recipe overItsBase(Set<String> seen) {
    if (recipe == null) {
      return this;
    }
    if (!seen.add(recipe)) {
      throw TacoException.usage(
          "recipes build on each other in a circle: "
              + String.join(" on ", seen)
              + " on "
              + recipe);
    }
    Recipe base = Recipes.named(recipe).overItsBase(seen);
    ObjectNode own = YAML.valueToTree(this);
    own.remove("recipe");
    return base.overlaidWith(YAML.convertValue(own, Recipe.class));
  }

  /** Options of solvers that do not run; a resolved recipe says the defaults of all. */
  private void refuseUnusedOptions(Recipe full) {
    List<String> solvers = new ArrayList<>(List.of(require(full.solver)));
    if (layers != null) {
      layers.stream().map(LayerRule::solver).filter(name -> name != null).forEach(solvers::add);
    }
    if (Refit.ADAM.toString().equals(refit) && !solvers.contains("adaprune")) {
      throw TacoException.usage("--refit adam is for --solver adaprune, not " + full.solver);
    }
    if (precision != null
        && !precision.equals(Precision.AUTO.toString())
        && !solvers.contains("obc")
        && !solvers.contains("hybrid")) {
      throw TacoException.usage("--precision is for --solver obc or hybrid, not " + full.solver);
    }
  }

  /** What this recipe, which must be complete, says of the solvers. */
  SolverOptions solverOptions() {
    return new SolverOptions(
        SolverOptions.parse(Search.class, "--search", require(search)),
        require(timeBudget),
        SolverOptions.parse(Refit.class, "--refit", require(refit)),
        SolverOptions.parse(Precision.class, "--precision", require(precision)),
        Quantization.ofOptions(
            bits, /* symmetric= */ true, /* searchScale= */ true, actOrder, sweeps),
        require(seed));
  }

  private static <T> T require(@Nullable T value) {
    return java.util.Objects.requireNonNull(value);
  }

  /**
   * Whether units of hidden dimensions are all that this recipe, which must be complete, prunes.
   */
  boolean prunesUnitsOnly() {
    return structured != null
        && bits == null
        && layers == null
        && patternOf(pattern, sparsity, null).sparsity() == 0;
  }

  /** The memory that this recipe allows, in bytes. */
  long memoryBytes() {
    return memory == null ? MemorySize.defaultBytes() : MemorySize.parse(memory, "--memory");
  }

  /** The memory of each GPU that this recipe, which must be complete, allows; 0 for most of it. */
  long gpuMemoryBytes() {
    return MemorySize.ofGpu(gpuMemory, require(backend));
  }

  /** Whether layers are reconstructed sequentially; of a complete recipe. */
  boolean isSequential() {
    return SEQUENTIAL.equals(reconstruct);
  }

  /** What of this recipe decides the weights of the specialist, given the model and the images. */
  Recipe forProvenance() {
    ObjectNode tree = YAML.valueToTree(this);
    tree.remove(
        List.of(
            "model",
            "data",
            "labels",
            "compare-ptc",
            "runtime",
            "pack-weights",
            "threads",
            "memory",
            "backend",
            "gpu-memory"));
    return YAML.convertValue(tree, Recipe.class);
  }

  /** Whether a pattern has no fraction and needs a sparsity. */
  private static boolean isBare(String pattern) {
    return pattern.matches("unstructured|(block|rows)\\d+|columns(:group=\\d+)?");
  }

  /** The pattern that a pattern text and a sparsity mean together. */
  static Pattern patternOf(
      @Nullable String pattern, @Nullable Double sparsity, @Nullable Pattern fallback) {
    if (pattern != null) {
      boolean bare = isBare(pattern);
      if (bare && sparsity == null) {
        throw TacoException.usage(
            "the pattern '" + pattern + "' needs a sparsity, such as " + pattern + ":0.8");
      }
      if (!bare && sparsity != null) {
        throw TacoException.usage(
            "both a sparsity ("
                + sparsity
                + ") and a pattern that has its own ('"
                + pattern
                + "'); give one");
      }
      return Pattern.parse(bare ? pattern.replaceFirst("^([^:]*)", "$1:" + sparsity) : pattern);
    }
    if (sparsity != null) {
      Pattern kind = fallback == null ? new Pattern.Unstructured(sparsity) : fallback;
      return switch (kind) {
        case Pattern.Block block -> new Pattern.Block(block.groupSize(), sparsity);
        case Pattern.RowBlock block -> new Pattern.RowBlock(block.rows(), sparsity);
        case Pattern.Columns columns -> new Pattern.Columns(sparsity, columns.groupSize());
        default -> new Pattern.Unstructured(sparsity);
      };
    }
    if (fallback == null) {
      throw TacoException.usage(
          "no sparsity: say which part of the weights to remove, such as --sparsity 0.6; or a --pattern such as 2:4, --structured or --bits");
    }
    return fallback;
  }

  /** The pattern and solver for a layer: those of the first rule that matches, else the general. */
  LayerChoice choiceFor(String layer) {
    Pattern general = patternOf(pattern, sparsity, null);
    String generalSolver = java.util.Objects.requireNonNull(solver);
    Optional<LayerRule> rule =
        layers == null
            ? Optional.empty()
            : layers.stream().filter(r -> r.glob().matches(layer)).findFirst();
    if (rule.isEmpty()) {
      return new LayerChoice(general, generalSolver);
    }
    LayerRule r = rule.get();
    return new LayerChoice(
        patternOf(r.pattern(), r.sparsity(), general),
        r.solver() == null ? generalSolver : r.solver());
  }

  /** What is done to one layer. */
  record LayerChoice(Pattern pattern, String solver) {}
}
