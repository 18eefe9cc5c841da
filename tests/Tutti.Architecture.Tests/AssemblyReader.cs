using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;

namespace Tutti.Architecture.Tests;

/// <summary>What a built assembly names, read from its metadata without loading it.</summary>
internal sealed class AssemblyReader : IDisposable
{
    private readonly PEReader _file;
    private readonly MetadataReader _metadata;

    public AssemblyReader(string project)
    {
        // The command's assembly is named after the command.
        string name = project == "Tutti.Cli" ? "tutti" : project;
        string path = Path.Combine(AppContext.BaseDirectory, name + ".dll");
        _file = new PEReader(File.OpenRead(path));
        _metadata = _file.GetMetadataReader();
    }

    /// <summary>Names of the assemblies that it references.</summary>
    public IEnumerable<string> References =>
        _metadata.AssemblyReferences.Select(handle => _metadata.GetString(_metadata.GetAssemblyReference(handle).Name));

    /// <summary>Full names of types outside the assembly that it uses.</summary>
    public IEnumerable<string> UsedTypes =>
        _metadata.TypeReferences.Select(handle => Name(_metadata.GetTypeReference(handle)));

    /// <summary>Members, as Namespace.Type.Member, of types outside the assembly that it uses.</summary>
    public IEnumerable<string> UsedMembers =>
        from handle in _metadata.MemberReferences
        let member = _metadata.GetMemberReference(handle)
        where member.Parent.Kind == HandleKind.TypeReference
        select Name(_metadata.GetTypeReference((TypeReferenceHandle)member.Parent)) + "." + _metadata.GetString(member.Name);

    /// <summary>Names, in the native library, of the functions that it calls.</summary>
    public IEnumerable<string> NativeMethods =>
        from handle in _metadata.MethodDefinitions
        let method = _metadata.GetMethodDefinition(handle)
        where (method.Attributes & MethodAttributes.PinvokeImpl) != 0
        select _metadata.GetString(method.GetImport().Name);

    public void Dispose() => _file.Dispose();

    private string Name(TypeReference type) => _metadata.GetString(type.Namespace) + "." + _metadata.GetString(type.Name);
}
