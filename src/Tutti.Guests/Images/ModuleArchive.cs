using System.Text;
using Tutti.Boot;

namespace Tutti.Guests;

/// <summary>
/// The kernel's drivers for what a machine's PCI bus may carry, as a second initramfs: the kernel unpacks several one after the other. A machine
/// without such devices goes without it, and starts sooner. Lies below /lib/modules as modprobe wants it (modules.dep(5)).
/// </summary>
internal static class ModuleArchive
{
    /// <summary>What the archive holds beside whatever these depend on. One that the kernel has built in is no file, and left out.</summary>
    private static readonly string[] Wanted =
    [
        "virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "virtio_console",
        "ext4", "crc32c_generic", "vfat", "nls_cp437", "nls_ascii", "nls_utf8", "nls_iso8859_1", "isofs",
    ];

    /// <summary>Tells archives of this Tutti from those of another.</summary>
    public static string Revision { get; } = "1:" + string.Join(',', Wanted);

    /// <summary>The wanted modules and what they need, each after what it depends on.</summary>
    /// <param name="available">All of the kernel's modules by name.</param>
    /// <exception cref="ImageException">One depends on a module that is not there, or on itself.</exception>
    public static IReadOnlyList<KernelModule> Order(IReadOnlyDictionary<string, KernelModule> available)
    {
        List<KernelModule> order = [];
        HashSet<string> underWay = [];
        foreach (string name in Wanted.Where(available.ContainsKey))
        {
            Add(name, name);
        }

        return order;

        void Add(string name, string wantedBy)
        {
            if (order.Exists(module => module.Name == name))
            {
                return;
            }

            if (!available.TryGetValue(name, out KernelModule? module) || !underWay.Add(name))
            {
                throw new ImageException($"The kernel's module {wantedBy} cannot be loaded, as {name} is {(underWay.Contains(name) ? "needed by itself" : "missing")}: pull the image again.");
            }

            foreach (string dependency in module.Depends)
            {
                Add(dependency, name);
            }

            order.Add(module);
        }
    }

    /// <summary>Writes the archive; the same modules give the same bytes.</summary>
    /// <param name="output">Written to and left open.</param>
    /// <param name="release">What "uname -r" says in the kernel.</param>
    /// <param name="files">The path of each module's file below /lib/modules/release, and its bytes.</param>
    public static void Write(Stream output, string release, IReadOnlyDictionary<string, byte[]> files)
    {
        Dictionary<string, KernelModule> available = files.Select(file => KernelModule.Parse(file.Key, file.Value)).ToDictionary(module => module.Name);
        IReadOnlyList<KernelModule> order = Order(available);
        Dictionary<string, string> paths = order.Count == 0 ? [] : files.Keys.ToDictionary(KernelModule.NameOf);
        string root = $"lib/modules/{release}";
        CpioWriter cpio = new(output);
        foreach (string folder in (string[])["lib", "lib/modules", root])
        {
            cpio.AddDirectory(folder);
        }

        StringBuilder dependencies = new();
        StringBuilder aliases = new();
        foreach (KernelModule module in order)
        {
            string file = module.Name + ".ko";
            cpio.AddFile($"{root}/{file}", files[paths[module.Name]]);
            dependencies.Append(file).Append(':');
            foreach (KernelModule needed in Enumerable.Reverse(Closure(module, available)))
            {
                dependencies.Append(' ').Append(needed.Name).Append(".ko");
            }

            dependencies.Append('\n');
            foreach (string alias in module.Aliases)
            {
                aliases.Append("alias ").Append(alias).Append(' ').Append(module.Name).Append('\n');
            }
        }

        cpio.AddFile($"{root}/modules.dep", Encoding.Latin1.GetBytes(dependencies.ToString()));
        cpio.AddFile($"{root}/modules.alias", Encoding.Latin1.GetBytes(aliases.ToString()));
        cpio.Finish();
    }

    /// <summary>What a module needs, directly or not, in the order of loading.</summary>
    private static List<KernelModule> Closure(KernelModule module, IReadOnlyDictionary<string, KernelModule> available)
    {
        List<KernelModule> closure = [];
        foreach (KernelModule needed in module.Depends.Select(name => available[name]))
        {
            closure.AddRange(Closure(needed, available).Append(needed).Where(one => !closure.Contains(one)).ToList());
        }

        return closure;
    }
}
