package org.taco4j.tune;

/** Is told how a tuning gets on, by the thread that tunes. */
public interface TuneListener {
  /** Is told nothing. */
  TuneListener SILENT =
      new TuneListener() {
        @Override
        public void begin(int passes, int done) {}

        @Override
        public void pass(TuneReport.Pass pass) {}
      };

  /**
   * Tuning begins.
   *
   * @param passes to do in all
   * @param done of them that an interrupted tuning had done
   */
  void begin(int passes, int done);

  /**
   * Some images of a pass are done.
   *
   * @param of images of the pass
   */
  default void images(int pass, int done, int of) {}

  /** A pass is done, and saved where there is a place; pass 0 is the untuned model. */
  void pass(TuneReport.Pass pass);
}
