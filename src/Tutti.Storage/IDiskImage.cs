using Tutti.Devices.Block;

namespace Tutti.Storage;

/// <summary>An opened image. Disposing of it waits for the requests under way, brings its metadata into the file, and closes it; not on its queue's loop thread.</summary>
public interface IDiskImage : IBlockBackend, IDisposable;
