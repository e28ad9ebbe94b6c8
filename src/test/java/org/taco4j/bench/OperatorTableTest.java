package org.taco4j.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.OptionalDouble;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.Notice;
import org.taco4j.common.Notices;

class OperatorTableTest {
  private static final OperatorTable.Machine MACHINE =
      new OperatorTable.Machine("A Processor (R) 9000", "avx2", "1.29.0", "0123456789abcdef", 2);

  private static final OperatorTable.Dense DENSE =
      new OperatorTable.Dense(1.25, true, false, 0.125, 0);

  @TempDir Path folder;

  private OperatorTable filled() {
    OperatorTable table = OperatorTable.open(folder, MACHINE, new Notices());
    table.putDense("conv", DENSE);
    table.putSparse("conv", "UNSTRUCTURED", 0.7, 1);
    table.putSparse("conv", "UNSTRUCTURED", 0.9, 0.5);
    table.putSparse("conv", "ROWS4", 0.8, 0.25);
    return table;
  }

  private static List<String> codes(Notices notices) {
    return notices.list().stream().map(Notice::code).toList();
  }

  @Test
  void aTableReadsWhatItWrote() {
    Notices notices = new Notices();
    filled().save(notices);
    OperatorTable table = OperatorTable.open(folder, MACHINE, notices);
    assertEquals(List.of(), notices.list());
    assertEquals(1, table.size());
    assertEquals(Optional.of(DENSE), table.dense("conv"));
    assertEquals(OptionalDouble.of(1), table.sparse("conv", "UNSTRUCTURED", 0.7));
    assertEquals(OptionalDouble.of(0.25), table.sparse("conv", "ROWS4", 0.8));
    assertEquals("operators-a-processor-r-9000-avx2-2.json", table.file().getFileName().toString());
  }

  @Test
  void betweenSparsitiesThatAreNearTimesLieOnALine() {
    OperatorTable table = filled();
    assertEquals(0.75, table.sparse("conv", "UNSTRUCTURED", 0.8).orElseThrow(), 1e-12);
    assertEquals(0.625, table.sparse("conv", "UNSTRUCTURED", 0.85).orElseThrow(), 1e-12);
    // A hundredth further is the same sparsity; more is not known.
    assertEquals(OptionalDouble.of(0.5), table.sparse("conv", "UNSTRUCTURED", 0.909));
    assertEquals(OptionalDouble.of(1), table.sparse("conv", "UNSTRUCTURED", 0.6912));
    for (double unknown : new double[] {0, 0.68, 0.92, 0.95, 1}) {
      assertTrue(table.sparse("conv", "UNSTRUCTURED", unknown).isEmpty(), "at " + unknown);
    }
    assertTrue(table.sparse("conv", "ROWS4", 0.7).isEmpty());
    assertTrue(table.sparse("other", "UNSTRUCTURED", 0.8).isEmpty());
    assertTrue(table.dense("other").isEmpty());
  }

  @Test
  void acrossAWideGapNothingIsGuessed() {
    OperatorTable table = OperatorTable.open(folder, MACHINE, new Notices());
    table.putSparse("conv", "UNSTRUCTURED", 0, 4);
    table.putSparse("conv", "UNSTRUCTURED", 0.5, 2);
    assertTrue(table.sparse("conv", "UNSTRUCTURED", 0.25).isEmpty());
    assertEquals(OptionalDouble.of(4), table.sparse("conv", "UNSTRUCTURED", 0.004));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "no JSON",
        "{\"schema\": 1}",
        "{\"schema\": 1, \"machine\": null, \"layers\": []}",
        "[1, 2]",
      })
  void aDamagedTableIsSaidSoAndReplaced(String content) throws IOException {
    Path file = OperatorTable.fileOf(folder, MACHINE);
    Files.writeString(file, content);
    assertIsReplaced(content, "damaged");
  }

  @ParameterizedTest
  @ValueSource(strings = {"1.25", "\"millis\" : 1.0", "\"sparsity\" : 0.9", "\"sparse\"", "UNST"})
  void aTableThatIsDamagedInsideIsReplaced(String where) throws IOException {
    filled().save(new Notices());
    Path file = OperatorTable.fileOf(folder, MACHINE);
    String text = Files.readString(file);
    assertTrue(text.contains(where), text);
    String damage = where.startsWith("\"") ? "\"sparsity\" : -7" : "-1.25\"";
    Files.writeString(file, text.replace(where, damage));
    assertIsReplaced(damage, "damaged");
  }

  private void assertIsReplaced(String what, String code) {
    Notices notices = new Notices();
    OperatorTable table = OperatorTable.open(folder, MACHINE, notices);
    assertEquals(1, notices.list().size(), what + notices.list());
    assertEquals("operator-table-" + code, notices.list().getFirst().code(), what);
    assertEquals(0, table.size());
    assertTrue(table.sparse("conv", "ROWS4", 0.8).isEmpty());
    // What is measured now takes its place.
    table.putDense("conv", DENSE);
    table.save(notices);
    Notices again = new Notices();
    assertEquals(1, OperatorTable.open(folder, MACHINE, again).size());
    assertEquals(List.of(), again.list());
  }

  @Test
  void aTableOfAnotherVersionIsSaidSoAndReplaced() throws IOException {
    for (OperatorTable.Machine other :
        List.of(
            new OperatorTable.Machine(MACHINE.processor(), "avx2", "1.30.0", MACHINE.library(), 2),
            new OperatorTable.Machine(MACHINE.processor(), "avx2", "1.29.0", "another", 2))) {
      Files.deleteIfExists(OperatorTable.fileOf(folder, MACHINE));
      filled().save(new Notices());
      Notices notices = new Notices();
      OperatorTable table = OperatorTable.open(folder, other, notices);
      assertEquals(List.of("operator-table-outdated"), codes(notices));
      assertEquals(0, table.size());
    }
    Path file = OperatorTable.fileOf(folder, MACHINE);
    Files.writeString(file, Files.readString(file).replace("\"schema\" : 1", "\"schema\" : 2"));
    assertIsReplaced("schema 2", "outdated");
  }

  @Test
  void instructionSetsAndThreadsHaveTablesOfTheirOwn() {
    filled().save(new Notices());
    for (OperatorTable.Machine other :
        List.of(
            new OperatorTable.Machine(
                MACHINE.processor(), "scalar", "1.29.0", MACHINE.library(), 2),
            new OperatorTable.Machine(
                MACHINE.processor(), "avx2", "1.29.0", MACHINE.library(), 1))) {
      Notices notices = new Notices();
      assertEquals(0, OperatorTable.open(folder, other, notices).size());
      assertEquals(List.of(), notices.list());
    }
  }

  @Test
  void aTableThatCannotBeKeptIsNoError() throws IOException {
    Path file = Files.writeString(folder.resolve("file"), "in the way");
    Notices notices = new Notices();
    OperatorTable table = OperatorTable.open(file.resolve("caches"), MACHINE, notices);
    table.putDense("conv", DENSE);
    table.save(notices);
    assertEquals(List.of("operator-table-not-kept"), codes(notices));
    assertEquals(Optional.of(DENSE), table.dense("conv"));
  }

  @Test
  void nothingNewIsNotWritten() {
    OperatorTable table = OperatorTable.open(folder, MACHINE, new Notices());
    table.save(new Notices());
    assertFalse(Files.exists(table.file()));
  }

  @Test
  void theTestsHaveACacheFolderOfTheirOwn() {
    assertTrue(
        OperatorTable.cacheFolder().startsWith(Path.of("target").toAbsolutePath()),
        OperatorTable.cacheFolder().toString());
  }
}
