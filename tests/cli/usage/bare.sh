# A bare call shows the brief help and says by its code that nothing was done.
quern
