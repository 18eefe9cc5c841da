// Some tests look at the descriptors, mappings and threads of the whole process.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
