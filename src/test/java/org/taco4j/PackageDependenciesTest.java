package org.taco4j;

import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAPackage;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideOutsideOfPackage;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.classes;

import com.tngtech.archunit.base.DescribedPredicate;
import com.tngtech.archunit.core.domain.JavaClass;
import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Holds the package table of ARCHITECTURE.md: a package uses only those that its row names. */
class PackageDependenciesTest {
  private static final JavaClasses CLASSES =
      new ClassFileImporter()
          .withImportOption(ImportOption.Predefined.DO_NOT_INCLUDE_TESTS)
          .importPackages("org.taco4j");

  @ParameterizedTest
  @CsvSource({
    "common, ''",
    "onnx, 'common'",
    "data, 'common'",
    "compute, 'common'",
    "solve, 'common compute'",
    "runtime, 'common onnx compute'",
    "execute, 'common onnx'",
    "export, 'common onnx solve calibrate'",
    "calibrate, 'common onnx data runtime compute'",
    "reconstruct, 'common onnx data runtime compute solve calibrate'",
    "tune, 'common onnx data runtime execute'",
    "bench, 'common onnx data runtime export'",
    "report, 'common'",
    "demo, 'common onnx data runtime tune bench report root'",
  })
  void usesOnlyWhatItMay(String name, String allowed) {
    String own = "org.taco4j." + name + "..";
    DescribedPredicate<JavaClass> permitted =
        Stream.of(allowed.split(" "))
            .filter(p -> !p.isEmpty())
            .map(p -> resideInAPackage(p.equals("root") ? "org.taco4j" : "org.taco4j." + p + ".."))
            .reduce(
                resideInAPackage(own).or(resideOutsideOfPackage("org.taco4j..")),
                (a, b) -> a.or(b));
    classes()
        .that(resideInAPackage(own))
        .should()
        .onlyDependOnClassesThat(permitted)
        .because("dependencies point down the table in ARCHITECTURE.md only")
        .check(CLASSES);
  }

  @org.junit.jupiter.api.Test
  void onlyTheCommandLineUsesTheCommandLine() {
    classes()
        .that(resideInAPackage("org.taco4j.cli.."))
        .should()
        .onlyBeAccessed()
        .byClassesThat(resideInAPackage("org.taco4j.cli.."))
        .check(CLASSES);
  }
}
