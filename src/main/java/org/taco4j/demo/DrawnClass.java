package org.taco4j.demo;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import org.taco4j.data.TaskClass;

/** The classes of things that can be drawn, in the order of the generalist's outputs. */
public enum DrawnClass {
  /** A passenger car. */
  CAR(Family.VEHICLES, Vehicles::car),
  /** A delivery van. */
  VAN(Family.VEHICLES, Vehicles::van),
  /** A bus. */
  BUS(Family.VEHICLES, Vehicles::bus),
  /** A truck with a box. */
  TRUCK(Family.VEHICLES, Vehicles::truck),
  /** A tractor. */
  TRACTOR(Family.VEHICLES, Vehicles::tractor),
  /** A sailing boat. */
  SAILBOAT(Family.VEHICLES, Vehicles::sailboat),
  /** A cat. */
  CAT(Family.ANIMALS, Animals::cat),
  /** A dog. */
  DOG(Family.ANIMALS, Animals::dog),
  /** A fox. */
  FOX(Family.ANIMALS, Animals::fox),
  /** A bear. */
  BEAR(Family.ANIMALS, Animals::bear),
  /** A mouse. */
  MOUSE(Family.ANIMALS, Animals::mouse),
  /** A rabbit. */
  RABBIT(Family.ANIMALS, Animals::rabbit),
  /** An apple. */
  APPLE(Family.FRUIT, Fruit::apple),
  /** An orange. */
  ORANGE(Family.FRUIT, Fruit::orange),
  /** A pear. */
  PEAR(Family.FRUIT, Fruit::pear),
  /** A lemon. */
  LEMON(Family.FRUIT, Fruit::lemon),
  /** A strawberry. */
  STRAWBERRY(Family.FRUIT, Fruit::strawberry),
  /** Two cherries. */
  CHERRIES(Family.FRUIT, Fruit::cherries),
  /** A cup. */
  CUP(Family.HOUSEHOLD, Household::cup),
  /** A bowl. */
  BOWL(Family.HOUSEHOLD, Household::bowl),
  /** A teapot. */
  TEAPOT(Family.HOUSEHOLD, Household::teapot),
  /** A jug. */
  JUG(Family.HOUSEHOLD, Household::jug),
  /** A vase. */
  VASE(Family.HOUSEHOLD, Household::vase),
  /** A table lamp. */
  LAMP(Family.HOUSEHOLD, Household::lamp);

  /** Draws a thing into the square from -1 to 1, y downwards. */
  @FunctionalInterface
  interface Figure {
    void draw(Brush brush);
  }

  private final Family family;
  private final Figure figure;

  DrawnClass(Family family, Figure figure) {
    this.family = family;
    this.figure = figure;
  }

  /** The family that it belongs to. */
  public Family family() {
    return family;
  }

  Figure figure() {
    return figure;
  }

  /** Its output of the generalist, from 0. */
  public int modelIndex() {
    return Arrays.asList(values()).indexOf(this);
  }

  /** Classes as a model with one output for each of them knows them, in that order. */
  static List<TaskClass> tasks(List<DrawnClass> classes) {
    return IntStream.range(0, classes.size())
        .mapToObj(i -> new TaskClass(classes.get(i).toString(), i, classes.get(i).toString()))
        .toList();
  }

  /** The name for people and folders, such as {@code car}. */
  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
